"""The frozen text side of an open_clip model."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

POOLS = ("argmax", "eos")  # both read the feature at the end-of-text token
Tokenizer = Callable[[list[str]], Tensor]


class TextTower(ABC):
    """Embeds texts with the text side of an open_clip model.

    It is not a module, so a module that holds it does not save, train or move it. The model must
    be frozen, in eval mode and on the device of the vectors.
    """

    def __init__(self, tokenizer: Tokenizer, embedding: nn.Embedding) -> None:
        self._tokenizer: Any = tokenizer
        self.embedding = embedding
        """Of tokens."""
        self.width: int = embedding.embedding_dim

    @abstractmethod
    def encode_texts(self, texts: Sequence[str]) -> Float[Tensor, "N D"]:
        """Return the features of whole sentences, not of unit length."""

    def token_ids(self, texts: Sequence[str]) -> Int64[Tensor, "N L"]:
        """Return token ids, padded as the tokenizer does."""
        return self._tokenizer(list(texts)).to(self.embedding.weight.device)

    @torch.no_grad()
    def nearest_words(
        self, vectors: Float[Tensor, "N W"], n: int
    ) -> tuple[tuple[tuple[str, float], ...], ...]:
        """Return the n words of the vocabulary nearest to each vector, with their distance.

        Words are tokens, and distances are Euclidean, to their embeddings (as Zhou et al., 2022,
        sec. 4.4, interpret their learned context).
        """
        table: Float[Tensor, "V W"] = self.embedding.weight
        distance, token = torch.cdist(vectors.to(table), table).topk(n, largest=False)
        decoder = getattr(self._tokenizer, "tokenizer", self._tokenizer)  # open_clip wraps others
        return tuple(
            tuple((decoder.decode([t]).strip(), d) for t, d in zip(tokens, distances, strict=True))
            for tokens, distances in zip(token.tolist(), distance.tolist(), strict=True)
        )

    def refuse_full(self, texts: Sequence[str], lengths: Int64[Tensor, "N"], n_tokens: int) -> None:
        """Raise `ValueError` for the first text that takes all the tokens that there are."""
        if len(cut := (lengths >= n_tokens).nonzero().flatten()):
            raise ValueError(
                f"the prompt {texts[int(cut[0])]!r} fills all {n_tokens} tokens of the text "
                "tower, so its end may be cut off; shorten it"
            )


class CausalTower(TextTower):
    """A text transformer of open_clip's own kind, run on no more tokens than its prompts have.

    Each token sees only those before it, and the feature is read at the end-of-text token, as in
    CLIP: tokens after the last end token have no effect.
    """

    def __init__(self, model: nn.Module, tokenizer: Tokenizer) -> None:
        self._text: Any = _text_of(model)  # open_clip's towers share no base class
        super().__init__(tokenizer, self._text.token_embedding)
        self._pool = _pool_of(self._text)
        self._eos_id: int | None = getattr(
            self._text, "text_eos_id", getattr(self._text, "eos_id", None)
        )
        self._positions: Float[Tensor, "L W"] = self._text.positional_embedding
        self._mask: Tensor = self._text.attn_mask
        self.n_tokens_max: int = len(self._positions)

    @staticmethod
    def fits(model: nn.Module) -> bool:
        """Whether a model's text side is of this kind."""
        text: Any = _text_of(model)
        needed = ("transformer", "token_embedding", "positional_embedding", "ln_final")
        appends = getattr(text, "cls_emb", None) is not None or getattr(text, "use_pad_mask", False)
        return (
            all(hasattr(text, name) for name in needed)
            and getattr(text, "attn_mask", None) is not None
            and _pool_of(text) in POOLS
            and not appends
        )

    def tokenise(self, texts: Sequence[str]) -> tuple[Int64[Tensor, "N L"], Int64[Tensor, "N"]]:
        """Return token ids, padded as the tokenizer does, and the index of each end token."""
        tokens = self.token_ids(texts)
        ends = (
            tokens.argmax(-1)
            if self._pool == "argmax"
            else (tokens == self._eos_id).int().argmax(-1)
        )
        self.refuse_full(texts, ends + 1, tokens.shape[1])
        return tokens, ends

    def token_vectors(self, tokens: Int64[Tensor, "N L"]) -> Float[Tensor, "N L W"]:
        """Return the embeddings of tokens, without positions."""
        return self.embedding(tokens)

    def length_for(self, ends: Int64[Tensor, "N"]) -> int:
        """Return the number of tokens that must be run for these end tokens.

        The others are cut off (`test_prompts.py::test_the_cut_tower_equals_encode_text`).
        """
        return int(ends.max()) + 1

    def encode(
        self, vectors: Float[Tensor, "N L W"], ends: Int64[Tensor, "N"]
    ) -> Float[Tensor, "N D"]:
        """Return text features, not of unit length; L is at least `length_for(ends)`."""
        n = vectors.shape[1]
        x = self._text.transformer(vectors + self._positions[:n], attn_mask=self._mask[:n, :n])
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
    def encode_texts(self, texts: Sequence[str]) -> Float[Tensor, "N D"]:
        """Return the features of whole sentences, not of unit length."""
        tokens, ends = self.tokenise(texts)
        return self.encode(self.token_vectors(tokens[:, : self.length_for(ends)]), ends)


def _text_of(model: nn.Module) -> Any:
    return getattr(model, "text", model)


def _pool_of(text: Any) -> str:
    return getattr(text, "text_pool_type", None) or getattr(text, "pool_type", "")
