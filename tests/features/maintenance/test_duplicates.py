from itertools import combinations

import numpy as np
import pytest

from features.maintenance.statistics import duplicates
from features.maintenance.statistics.duplicates import Nearest, nearest_pairs

N, WIDTH = 41, 6


@pytest.fixture
def directions(tmp_path):
    """A function that writes vectors as the file that is compared."""

    def written(vectors: np.ndarray):
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        units = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
        np.save(tmp_path / "directions.npy", units.astype(np.float32))
        return tmp_path / "directions.npy"

    return written


def drawn(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((N, WIDTH))


def listed(found: Nearest) -> list[tuple[int, int]]:
    return [(pair.first, pair.second) for pair in found.pairs]


@pytest.mark.parametrize("block", [1, 7, 16, 41, 64])
@pytest.mark.parametrize("n_wanted", [1, 10, 10_000])
def test_blocks_find_what_all_against_all_finds(directions, monkeypatch, block, n_wanted):
    monkeypatch.setattr(duplicates, "BLOCK", block)
    vectors = drawn()
    vectors[[5, 30]] = 0  # clips without a valid row
    vectors[40], vectors[23] = 2 * vectors[3], vectors[11] + 1e-3
    file = directions(vectors)
    units = np.load(file).astype(np.float64)
    there = [k for k in range(N) if k not in (5, 30)]
    wanted = sorted(
        ((-float(units[i] @ units[j]), i, j) for i, j in combinations(there, 2)),
        key=lambda each: (round(each[0], 6), *each[1:]),
    )
    found = nearest_pairs(file, n_wanted, n_threads=2)
    assert listed(found) == [(i, j) for _, i, j in wanted][:n_wanted]
    cosines = [pair.cosine for pair in found.pairs]
    np.testing.assert_allclose(cosines, [-d for d, *_ in wanted][:n_wanted], atol=2e-6)
    assert found.n_likely == 2
    assert found.pairs[0].cosine == 1


@pytest.mark.parametrize("block", [4, 64])
def test_of_more_twins_than_are_listed_the_first_are_and_all_are_counted(
    directions, monkeypatch, block
):
    monkeypatch.setattr(duplicates, "BLOCK", block)
    found = nearest_pairs(directions(np.ones((N, WIDTH))), 3)
    assert listed(found) == [(0, 1), (0, 2), (0, 3)]
    assert found.n_likely == N * (N - 1) // 2


def test_a_lone_clip_has_no_twin(directions):
    assert nearest_pairs(directions(np.ones((1, WIDTH))), 3) == Nearest(3)
    assert nearest_pairs(directions(np.zeros((3, WIDTH))), 3) == Nearest(3)
