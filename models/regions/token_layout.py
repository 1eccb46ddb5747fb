"""How the token vectors of many prompts lie before the text tower: in one sequence, or each alone.

N is the number of texts, C of contexts, n of learned words in each, L of tokens, W the width of a
token, D of a feature. A prompt reads `<start> context description <end>`.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from models.regions.text_tower import TextTower


class SharedSequence(nn.Module):
    """All prompts in one sequence, in which what they share stands once.

    The start token, then each context, then each text's own tokens up to its end; a mask shows
    every token what came before it in its own prompt alone. Under a causal mask no token knows
    what follows it, so a start that prompts share has the same states in all of them: 27
    descriptions of the nine regions behind one context take a third of the tokens
    (`test_prompts.py::test_coop_equals_a_run_of_all_77_tokens`).
    """

    start: Float[Tensor, "1 W"]
    own: Float[Tensor, "K W"]
    """The tokens of the descriptions and their ends, text after text."""
    places: Int64[Tensor, "L"]
    """Where each token stands in its own prompt."""
    mask: Float[Tensor, "L L"]
    """0 where the row's token sees the column's, and -inf."""
    ends: Int64[Tensor, "N"]
    """Where each text's end token stands in the sequence."""

    def __init__(
        self,
        tower: TextTower,
        vectors: Float[Tensor, "N T W"],
        ends: Int64[Tensor, "N"],
        context_of: Int64[Tensor, "N"],
        n_context: int,
    ) -> None:
        super().__init__()
        self._tower = tower  # no module, so neither saved nor moved with us
        n_contexts, device = int(context_of.max()) + 1, vectors.device
        n_own = ends.tolist()  # the tokens behind the start
        parts = [(0, 1, -1, -1)]  # first place, number of tokens, context, text; -1: all have it
        parts += [(1, n_context, context, -1) for context in range(n_contexts)]
        parts += [
            (1 + n_context, n, context, text)
            for text, (n, context) in enumerate(zip(n_own, context_of.tolist(), strict=True))
        ]
        places = torch.cat([torch.arange(first, first + n) for first, n, *_ in parts])
        counts = torch.tensor([n for _, n, *_ in parts])
        context = torch.tensor([part[2] for part in parts]).repeat_interleave(counts)  # (L,)
        text = torch.tensor([part[3] for part in parts]).repeat_interleave(counts)  # (L,)
        seen = (
            (places <= places[:, None])
            & ((context == -1) | (context == context[:, None]))
            & ((text == -1) | (text == text[:, None]))
        )  # (L, L)
        mask = torch.zeros(seen.shape, dtype=vectors.dtype).masked_fill(~seen, -torch.inf)
        behind = vectors[:, 1:]
        real = torch.arange(behind.shape[1], device=device) < ends[:, None]  # (N, T - 1)
        self.register_buffer("start", vectors[0, :1], persistent=False)
        self.register_buffer("own", behind[real], persistent=False)
        self.register_buffer("places", places.to(device), persistent=False)
        self.register_buffer("mask", mask.to(device), persistent=False)
        last = 1 + n_contexts * n_context + ends.cumsum(dim=0) - 1
        self.register_buffer("ends", last, persistent=False)

    def forward(self, context: Float[Tensor, "C n W"]) -> Float[Tensor, "N D"]:
        """Features of the texts under these contexts, not of unit length."""
        vectors = torch.cat([self.start, context.flatten(0, 1), self.own])  # (L, W)
        return self._tower.encode_masked(vectors, self.places, self.mask, self.ends)


class SeparateSequences(nn.Module):
    """Each prompt a sequence of its own, for a tower whose tokens see what follows them."""

    start: Float[Tensor, "N 1 W"]
    behind: Float[Tensor, "N S W"]
    ends: Int64[Tensor, "N"]
    context_of: Int64[Tensor, "N"]

    def __init__(
        self,
        tower: TextTower,
        vectors: Float[Tensor, "N T W"],
        ends: Int64[Tensor, "N"],
        context_of: Int64[Tensor, "N"],
        n_context: int,
    ) -> None:
        super().__init__()
        self._tower = tower  # no module, so neither saved nor moved with us
        self.register_buffer("start", vectors[:, :1], persistent=False)
        self.register_buffer("behind", vectors[:, 1:], persistent=False)
        self.register_buffer("ends", ends + n_context, persistent=False)
        self.register_buffer("context_of", context_of, persistent=False)

    def forward(self, context: Float[Tensor, "C n W"]) -> Float[Tensor, "N D"]:
        """Features of the texts under these contexts, not of unit length."""
        vectors = torch.cat([self.start, context[self.context_of], self.behind], dim=1)
        return self._tower.encode(vectors, self.ends)  # (N, L, W) -> (N, D)
