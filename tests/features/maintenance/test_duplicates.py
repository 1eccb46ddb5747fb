from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from features.maintenance.statistics import duplicates
from features.maintenance.statistics.duplicates import Nearest, nearest_pairs

N, WIDTH = 41, 6


@pytest.fixture
def write(tmp_path) -> Callable[[np.ndarray], Path]:
    """A function that writes vectors, scaled to length 1, into a file."""

    def write(vectors: np.ndarray) -> Path:
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        units = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
        np.save(tmp_path / "mean_vectors.npy", units.astype(np.float32))
        return tmp_path / "mean_vectors.npy"

    return write


def indices(found: Nearest) -> list[tuple[int, int]]:
    return [(pair.first, pair.second) for pair in found.pairs]


@pytest.mark.parametrize("block", [1, 7, 16, 41, 64])
@pytest.mark.parametrize("n_pairs", [1, 10, 10_000])
def test_blocks_give_the_pairs_of_a_comparison_of_all_with_all(write, monkeypatch, block, n_pairs):
    monkeypatch.setattr(duplicates, "BLOCK", block)
    vectors = np.random.default_rng(0).standard_normal((N, WIDTH))
    vectors[[5, 30]] = 0  # clips without a valid row
    vectors[40], vectors[23] = 2 * vectors[3], vectors[11] + 1e-3  # a copy and a near copy
    file = write(vectors)
    units = np.load(file).astype(np.float64)
    valid = [k for k in range(N) if k not in (5, 30)]
    expected = sorted(
        ((-float(units[i] @ units[j]), i, j) for i, j in combinations(valid, 2)),
        key=lambda each: (round(each[0], 6), *each[1:]),
    )[:n_pairs]
    found = nearest_pairs(file, n_pairs, n_threads=2)
    assert indices(found) == [(i, j) for _, i, j in expected]
    cosines = [pair.cosine for pair in found.pairs]
    np.testing.assert_allclose(cosines, [-d for d, *_ in expected], atol=2e-6)
    assert found.n_likely == 2
    assert found.pairs[0].cosine == 1


@pytest.mark.parametrize("block", [4, 64])
def test_of_more_copies_than_are_listed_the_first_are_listed_and_all_counted(
    write, monkeypatch, block
):
    monkeypatch.setattr(duplicates, "BLOCK", block)
    found = nearest_pairs(write(np.ones((N, WIDTH))), 3)
    assert indices(found) == [(0, 1), (0, 2), (0, 3)]
    assert found.n_likely == N * (N - 1) // 2


@pytest.mark.parametrize("vectors", [np.ones((1, WIDTH)), np.zeros((3, WIDTH)), np.ones((0, 2))])
def test_without_two_clips_with_a_valid_row_there_is_no_pair(write, vectors):
    assert nearest_pairs(write(vectors), 3) == Nearest(3)
