"""Pack clips in child processes that are killed or meet a full or failing disk, at each step.

    python tests/helpers/crash_packing.py MANIFEST STORE STRIDE

prints how the children ended, as JSON (see crash_publish.py).
"""

import gc
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from features.manifest.manifest import read_manifest
from models.data.feature_sets import open_sets
from models.data.packed import PackedFeatures
from models.data.packed_cache import load_packed
from models.data.splits import read_all_labels
from tests.helpers.crash_publish import failing_at, forked, full_from, killed_at, small_files
from tests.helpers.two_streams import arrays_of

N_STEPS = 28  # a few more than one packing takes


def load(path: Path, store: str) -> PackedFeatures:
    manifest = read_manifest(path)
    labels = read_all_labels(manifest, manifest.clips, required=True)
    return load_packed(open_sets(store), labels)


def check(path: Path, store: str, expected: dict[str, np.ndarray]) -> None:
    """Assert that the rows that are loaded, or packed again, are the expected ones."""
    packed = load(path, store)
    found = arrays_of(packed)
    for name, wanted in expected.items():
        np.testing.assert_array_equal(found[name], wanted)


def ends(path: Path, store: str, disturb: Callable[[int], None], every: int) -> Iterator[int]:
    """How children end that are disturbed at every `every`-th step."""
    work = Path(store + ".work")
    expected = {name: array.copy() for name, array in arrays_of(load(path, store)).items()}
    compare = partial(check, path, store, expected)
    for step in range(1, N_STEPS, every):
        shutil.rmtree(work)
        work.mkdir()
        end = forked(partial(disturb, step), compare)
        assert forked(compare) == 0, (disturb, step)
        # in banks and staging; an old lock hurts nobody
        left = [each.name for each in work.glob("[bs]*/*/*")]
        assert sorted(left) == sorted(["bank.json", *(f"{name}.npy" for name in expected)]), left
        yield end


def main(path: Path, store: str, stride: int) -> None:
    os.fsync = os.fstat  # a killed process needs no fsync, and waiting for the disk takes time
    gc.freeze()  # a collection in a child would copy the memory that it shares with this process
    ways: dict[str, Callable[[int], None]] = {
        "killed": killed_at,
        "full": full_from,
        "failing": failing_at,
        "small": lambda step: small_files(512 * step),
    }
    met = {way: Counter(ends(path, store, disturb, stride)) for way, disturb in ways.items()}
    sys.stdout.write(json.dumps(met))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
