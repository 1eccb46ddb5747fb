"""The frozen text side of a CLIP, run on no more tokens than its prompts have."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

POOLS = ("argmax", "eos")  # both read the feature at the end-of-text token


class TextTower:
    """Embeds token vectors with the text transformer of an open_clip model.

    It is not a module, so a module that holds it does not save, train or move it. The model must
    be frozen, in eval mode and on the device of the vectors.
    """

    def __init__(self, model: nn.Module, tokenizer: Callable[[list[str]], Tensor]) -> None:
        text: Any = getattr(model, "text", model)  # open_clip's towers share no base class
        needed = ("transformer", "token_embedding", "positional_embedding", "ln_final")
        if missing := [name for name in needed if not hasattr(text, name)]:
            raise ValueError(
                f"{type(model).__name__} has no text transformer of open_clip's own kind "
                f"(no {', '.join(missing)}); learned prompts need one"
            )
        self._pool: str = getattr(text, "text_pool_type", None) or getattr(text, "pool_type", "")
        self._eos_id: int | None = getattr(text, "text_eos_id", getattr(text, "eos_id", None))
        appends = getattr(text, "cls_emb", None) is not None or getattr(text, "use_pad_mask", False)
        if self._pool not in POOLS or appends:
            raise ValueError(
                f"{type(model).__name__} pools its text by {self._pool!r}"
                f"{' with a class token or padding mask' if appends else ''}; prompts need a tower "
                "that reads its end-of-text token"
            )
        self._text = text
        self._tokenizer: Any = tokenizer
        self._positions: Float[Tensor, "L W"] = text.positional_embedding
        self._mask: Tensor | None = text.attn_mask
        self.n_tokens_max: int = len(self._positions)
        self.width: int = self._positions.shape[1]
        self.is_causal: bool = self._mask is not None

    def tokenise(self, texts: Sequence[str]) -> tuple[Int64[Tensor, "N L"], Int64[Tensor, "N"]]:
        """Return token ids, padded as the tokenizer does, and the index of each end token."""
        tokens = self._tokenizer(list(texts)).to(self._positions.device)  # (N, L)
        ends = (
            tokens.argmax(-1)
            if self._pool == "argmax"
            else (tokens == self._eos_id).int().argmax(-1)
        )
        if len(cut := (ends == tokens.shape[1] - 1).nonzero().flatten()):
            raise ValueError(
                f"the prompt {texts[int(cut[0])]!r} fills all {tokens.shape[1]} tokens of the text "
                "tower, so its end may be cut off; shorten it"
            )
        return tokens, ends

    def token_vectors(self, tokens: Int64[Tensor, "N L"]) -> Float[Tensor, "N L W"]:
        """Return the embeddings of tokens, without positions."""
        return self._text.token_embedding(tokens)

    def length_for(self, ends: Int64[Tensor, "N"]) -> int:
        """Return the number of tokens that must be run for these end tokens.

        Under a causal mask tokens after the last end token have no effect and are cut off
        (`test_prompts.py::test_the_cut_tower_equals_encode_text`). Without a mask all are run.
        """
        return self.n_tokens_max if self._mask is None else int(ends.max()) + 1

    def encode(
        self, vectors: Float[Tensor, "N L W"], ends: Int64[Tensor, "N"]
    ) -> Float[Tensor, "N D"]:
        """Return text features, not of unit length; L is at least `length_for(ends)`."""
        n = vectors.shape[1]
        mask = None if self._mask is None else self._mask[:n, :n]
        x = self._text.transformer(vectors + self._positions[:n], attn_mask=mask)
        return self._projected(x[torch.arange(len(x), device=x.device), ends])

    def encode_masked(
        self,
        vectors: Float[Tensor, "L W"],
        places: Int64[Tensor, "L"],
        mask: Float[Tensor, "L L"],
        ends: Int64[Tensor, "N"],
    ) -> Float[Tensor, "N D"]:
        """Return text features, not of unit length, of texts that share one sequence.

        `places` is the position of each token in its own text, the mask is 0 where it sees another
        token and -inf elsewhere, `ends` is the index of each text's end token in the sequence.
        """
        x = (vectors + self._positions[places]).unsqueeze(0)  # (1, L, W)
        return self._projected(self._text.transformer(x, attn_mask=mask)[0, ends])

    def _projected(self, x: Float[Tensor, "N W"]) -> Float[Tensor, "N D"]:
        x = self._text.ln_final(x)
        projection = self._text.text_projection
        if projection is None:
            return x
        return projection(x) if isinstance(projection, nn.Linear) else x @ projection

    @torch.no_grad()
    def nearest_words(
        self, vectors: Float[Tensor, "N W"], n: int
    ) -> tuple[tuple[tuple[str, float], ...], ...]:
        """Return the n words of the vocabulary nearest to each vector, with their distance.

        Words are tokens, and distances are Euclidean, to their embeddings (as Zhou et al., 2022,
        sec. 4.4, interpret their learned context).
        """
        table: Float[Tensor, "V W"] = self._text.token_embedding.weight
        distance, token = torch.cdist(vectors.to(table), table).topk(n, largest=False)
        decoder = getattr(self._tokenizer, "tokenizer", self._tokenizer)  # open_clip wraps others
        return tuple(
            tuple((decoder.decode([t]).strip(), d) for t, d in zip(tokens, distances, strict=True))
            for tokens, distances in zip(token.tolist(), distance.tolist(), strict=True)
        )

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> Float[Tensor, "N D"]:
        """Return the features of whole sentences, not of unit length."""
        tokens, ends = self.tokenise(texts)
        return self.encode(self.token_vectors(tokens[:, : self.length_for(ends)]), ends)
