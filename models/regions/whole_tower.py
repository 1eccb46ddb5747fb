"""The text side of any open_clip model, run whole by its own `encode_text`.

This is the way of a SigLIP, whose tokens see each other and whose feature is read at the last one,
of a CoCa, and of towers of transformers. It costs a run of all tokens of each text.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from models.regions.text_tower import CausalTower, TextTower, Tokenizer


def open_tower(model: nn.Module, tokenizer: Tokenizer) -> TextTower:
    """Return the text tower of an open_clip model; raises `ValueError` if it has none."""
    return (
        CausalTower(model, tokenizer) if CausalTower.fits(model) else WholeTower(model, tokenizer)
    )


class WholeTower(TextTower):
    """A text side of any kind that embeds its tokens with a table."""

    def __init__(self, model: nn.Module, tokenizer: Tokenizer) -> None:
        self._model: Any = model
        text: Any = getattr(model, "text", model)
        table = getattr(text, "token_embedding", None)
        if table is None and hasattr(getattr(text, "transformer", None), "get_input_embeddings"):
            table = text.transformer.get_input_embeddings()  # of transformers
        if not hasattr(model, "encode_text") or not isinstance(table, nn.Embedding):
            raise ValueError(
                f"{type(model).__name__} has no text side that embeds tokens as models of "
                "open_clip do; set prompts to null, or take features of another model"
            )
        super().__init__(tokenizer, table)

    def tokenise(
        self, texts: Sequence[str]
    ) -> tuple[Int64[Tensor, "N L"], Int64[Tensor, "N"], bool]:
        """Return token ids, the length of each text, and whether texts have a start token.

        The length has the end token, unless that is also what fills a text up.
        """
        filler = self.token_ids([""])[0]  # (L,)
        tokens = self.token_ids(texts)
        places = torch.arange(1, tokens.shape[1] + 1, device=tokens.device)
        lengths = ((tokens != filler) * places).amax(dim=1)  # (N,)
        self.refuse_full(texts, lengths, tokens.shape[1])
        return tokens, lengths, bool((tokens[:, 0] == filler[0]).all())

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> Float[Tensor, "N D"]:
        """Return the features of whole sentences, not of unit length."""
        return self._model.encode_text(self.tokenise(texts)[0], normalize=False)

    def encode(
        self, tokens: Int64[Tensor, "N L"], vectors: Float[Tensor, "N L W"]
    ) -> Float[Tensor, "N D"]:
        """Return text features, not of unit length, of tokens with these vectors as embeddings."""
        hook = self.embedding.register_forward_hook(lambda *_: vectors)
        try:
            return self._model.encode_text(tokens, normalize=False)
        finally:
            hook.remove()
