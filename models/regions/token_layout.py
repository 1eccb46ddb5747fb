"""The layout of the token vectors of many prompts: in one sequence, or a sequence each.

N is the number of texts, C of contexts, n of learned words in each, L of tokens, W the width of a
token, D of a feature. A prompt reads `<start> context description <end>`.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from models.regions.text_tower import TextTower


class TokenLayout(nn.Module):
    """Tensors that move with the module and are not saved; the tower is neither moved nor saved."""

    def __init__(self, tower: TextTower, **tensors: Tensor) -> None:
        super().__init__()
        self._tower = tower
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor, persistent=False)


class SharedSequence(TokenLayout):
    """All prompts in one sequence, which holds what they share only once.

    The start token, then each context, then each text's own tokens up to its end. A mask lets each
    token see only the tokens before it in its own prompt. Under a causal mask no token depends on
    later ones, so a common start has the same states in all prompts: 27 descriptions of the nine
    regions behind one context take a third of the tokens
    (`test_prompts.py::test_coop_equals_a_run_of_all_77_tokens`).
    """

    start: Float[Tensor, "1 W"]
    own: Float[Tensor, "K W"]
    """The tokens of the descriptions and their ends, text after text."""
    places: Int64[Tensor, "L"]
    """Position of each token in its own prompt."""
    mask: Float[Tensor, "L L"]
    """0 if the row's token sees the column's, else -inf."""
    ends: Int64[Tensor, "N"]
    """Index of each text's end token in the sequence."""

    def __init__(
        self,
        tower: TextTower,
        vectors: Float[Tensor, "N T W"],
        ends: Int64[Tensor, "N"],
        context_of: Int64[Tensor, "N"],
        n_context: int,
    ) -> None:
        n_contexts, device = int(context_of.max()) + 1, vectors.device
        n_own = ends.tolist()  # tokens after the start
        parts = [(0, 1, -1, -1)]  # position, number of tokens, context, text; -1: all
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
        super().__init__(
            tower,
            start=vectors[0, :1],
            own=behind[real],
            places=places.to(device),
            mask=mask.to(device),
            ends=n_contexts * n_context + ends.cumsum(dim=0),
        )

    def forward(self, context: Float[Tensor, "C n W"]) -> Float[Tensor, "N D"]:
        """Features of the texts under these contexts, not of unit length."""
        vectors = torch.cat([self.start, context.flatten(0, 1), self.own])  # (L, W)
        return self._tower.encode_masked(vectors, self.places, self.mask, self.ends)


class SeparateSequences(TokenLayout):
    """A sequence per prompt, for a tower whose tokens depend on later ones."""

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
        start, behind, ends = vectors[:, :1], vectors[:, 1:], ends + n_context
        super().__init__(tower, start=start, behind=behind, ends=ends, context_of=context_of)

    def forward(self, context: Float[Tensor, "C n W"]) -> Float[Tensor, "N D"]:
        """Features of the texts under these contexts, not of unit length."""
        vectors = torch.cat([self.start, context[self.context_of], self.behind], dim=1)
        return self._tower.encode(vectors, self.ends)  # (N, L, W) -> (N, D)
