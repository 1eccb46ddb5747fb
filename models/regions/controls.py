"""Controls for the words: region prototypes that say nothing about their regions."""

import random
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from models.regions.grid import Grid
from models.regions.prototypes import FixedPrototypes
from models.regions.text_tower import TextTower
from models.regions.texts import RegionTexts

SEED = 1  # of both controls
DRAWS = 3000


def permute_texts(texts: RegionTexts) -> RegionTexts:
    """Return the texts with each region's descriptions given to another region."""
    order, n = derangement(texts.grid), len(texts.grid.levels)
    levels, by_region = texts.grid.levels, texts.by_region
    regions = {
        valence: {arousal: by_region[order[n * v + a]] for a, arousal in enumerate(levels)}
        for v, valence in enumerate(levels)
    }
    return texts.model_copy(update={"regions": regions})


def random_prototypes(tower: TextTower, texts: RegionTexts) -> FixedPrototypes:
    """Return unit vectors of random directions instead of text features."""
    like = tower.encode_texts([texts.by_region[0][0]])  # (1, D)
    generator = torch.Generator().manual_seed(SEED)
    drawn = torch.randn(texts.grid.n_regions, like.shape[1], generator=generator)
    return FixedPrototypes(F.normalize(drawn, dim=-1).to(like))


def derangement(grid: Grid) -> tuple[int, ...]:
    """Return a permutation of the regions that keeps no region and no order along an axis.

    Region k gets the texts of the region at index k of the result. Of `DRAWS` seeded permutations
    without a fixed region it is the first of those whose levels along valence and along arousal are
    least correlated with the levels of the texts along the same axis and then, among these, along
    the other axis. On the nine regions all of these correlations are 0.
    """
    n = len(grid.levels)
    levels = [index - (n - 1) / 2 for index in range(n)]
    valence, arousal = [v for v in levels for _ in levels], [a for _ in levels for a in levels]
    draw = random.Random(SEED)
    identity = range(n * n)
    drawn = (tuple(draw.sample(identity, n * n)) for _ in range(DRAWS))
    moved = (order for order in drawn if all(k != region for k, region in enumerate(order)))

    def product(order: Sequence[int], one: Sequence[float], other: Sequence[float]) -> float:
        return abs(sum(one[k] * other[region] for k, region in enumerate(order)))

    def kept_order(order: Sequence[int]) -> tuple[float, float]:
        own = max(product(order, valence, valence), product(order, arousal, arousal))
        return own, max(product(order, valence, arousal), product(order, arousal, valence))

    return min(moved, key=kept_order)
