"""The layout of the token vectors of many prompts: in one sequence, or a sequence each.

N is the number of texts, C of contexts, n of learned words in each, L of tokens, W the width of a
token, D of a feature. A prompt reads `<start> context description <end>`; towers such as that of
SigLIP have no start token.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from models.regions.text_tower import CausalTower, TextTower
from models.regions.whole_tower import WholeTower


def lay_out(
    tower: TextTower, texts: Sequence[str], context_of: Int64[Tensor, "N"], n_context: int
) -> "SharedSequence | SeparateSequences":
    """Return the module that encodes the texts, each behind its context of n learned words.

    Raises `ValueError` if a text has no room for them.
    """
    if isinstance(tower, CausalTower):
        return SharedSequence(tower, texts, context_of, n_context)
    assert isinstance(tower, WholeTower)
    return SeparateSequences(tower, texts, context_of, n_context)


def _check_room(n_tokens: int, n_context: int, n_tokens_max: int) -> None:
    if n_tokens > n_tokens_max:
        raise ValueError(
            f"{n_context} context words and the longest description take {n_tokens} tokens, "
            f"the text tower has room for {n_tokens_max}; lower n_context, or shorten "
            "the description"
        )


class TokenLayout(nn.Module):
    """Tensors that move with the module and are not saved; the tower is neither moved nor saved."""

    def __init__(self, **tensors: Tensor) -> None:
        super().__init__()
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
        tower: CausalTower,
        texts: Sequence[str],
        context_of: Int64[Tensor, "N"],
        n_context: int,
    ) -> None:
        tokens, ends = tower.tokenise(texts)
        length = tower.length_for(ends + n_context)
        _check_room(length, n_context, tower.n_tokens_max)
        with torch.no_grad():
            vectors = tower.token_vectors(tokens[:, : length - n_context])  # (N, T, W)
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
            start=vectors[0, :1],
            own=behind[real],
            places=places.to(device),
            mask=mask.to(device),
            ends=n_contexts * n_context + ends.cumsum(dim=0),
        )
        self._tower = tower

    def forward(self, context: Float[Tensor, "C n W"]) -> Float[Tensor, "N D"]:
        """Features of the texts under these contexts, not of unit length."""
        vectors = torch.cat([self.start, context.flatten(0, 1), self.own])  # (L, W)
        return self._tower.encode_masked(vectors, self.places, self.mask, self.ends)


class SeparateSequences(TokenLayout):
    """A sequence per prompt, for a tower that runs each text whole."""

    tokens: Int64[Tensor, "N L"]
    """With the first word of the description in place of each word of the context."""
    vectors: Float[Tensor, "N L W"]
    is_context: Int64[Tensor, "N L"]
    """1 + the index of the word in all contexts, or 0 if the token is none."""

    def __init__(
        self,
        tower: WholeTower,
        texts: Sequence[str],
        context_of: Int64[Tensor, "N"],
        n_context: int,
    ) -> None:
        tokens, lengths, has_start = tower.tokenise(texts)
        n_tokens, first = tokens.shape[1], int(has_start)
        _check_room(int(lengths.max()) + n_context, n_context, n_tokens)
        places = torch.arange(n_tokens, device=tokens.device)
        # what fills the text up behind its end makes room for the context
        moved = (places >= first + n_context) & (places < (lengths + n_context)[:, None])
        inside = (places >= first) & (places < first + n_context)  # (L,)
        source = torch.where(moved, places - n_context, places)
        source = torch.where(inside, first, source)  # (N, L)
        tokens = tokens.gather(1, source)
        word = 1 + context_of[:, None] * n_context + places - first
        with torch.no_grad():
            vectors = tower.embedding(tokens)
        super().__init__(tokens=tokens, vectors=vectors, is_context=torch.where(inside, word, 0))
        self._tower = tower

    def forward(self, context: Float[Tensor, "C n W"]) -> Float[Tensor, "N D"]:
        """Features of the texts under these contexts, not of unit length."""
        learned = context.flatten(0, 1)[(self.is_context - 1).clamp(min=0)]  # (N, L, W)
        vectors = torch.where(self.is_context[..., None] > 0, learned, self.vectors)
        return self._tower.encode(self.tokens, vectors)
