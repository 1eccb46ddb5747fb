"""Pack clips in child processes that are killed or meet a full or failing disk, at each step.

    python tests/helpers/crash_packing.py FOLDER STRIDE

prints how the children ended, as JSON (see crash_publish.py).
"""

import json
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
from tests.helpers.synthetic import Planted, plant

N_STEPS = 28  # a few more than one packing takes


def load(planted: Planted) -> PackedFeatures:
    manifest = read_manifest(planted.manifest)
    labels = read_all_labels(manifest, manifest.clips, required=True)
    return load_packed(open_sets(planted.store, None, None), labels)


def check(planted: Planted, expected: dict[str, np.ndarray]) -> None:
    """Assert that the rows that are loaded, or packed again, are the expected ones."""
    packed = load(planted)
    for name, wanted in expected.items():
        np.testing.assert_array_equal(np.asarray(getattr(packed, name)), wanted)


def ends(planted: Planted, disturb: Callable[[int], None], every: int) -> Iterator[int]:
    """How children end that are disturbed at every `every`-th step."""
    work = Path(planted.store + ".work")
    names = ("time_s", "visual", "visual_valid", "audio", "audio_valid", "va", "va_valid")
    whole = load(planted)
    expected = {name: np.asarray(getattr(whole, name)).copy() for name in names}
    compare = partial(check, planted, expected)
    for step in range(1, N_STEPS, every):
        shutil.rmtree(work)
        work.mkdir()
        end = forked(partial(disturb, step), compare)
        assert forked(compare) == 0, (disturb, step)
        # in banks and staging; an old lock hurts nobody
        left = [path.name for path in work.glob("[bs]*/*/*")]
        assert sorted(left) == sorted(["bank.json", *(f"{name}.npy" for name in names)]), left
        yield end


def main(folder: Path, stride: int) -> None:
    planted = plant(folder, ("train", "val"))
    ways: dict[str, Callable[[int], None]] = {
        "killed": killed_at,
        "full": full_from,
        "failing": failing_at,
        "small": lambda step: small_files(512 * step),
    }
    met = {way: Counter(ends(planted, disturb, stride)) for way, disturb in ways.items()}
    sys.stdout.write(json.dumps(met))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
