"""How long a training takes to its first step, from a bank that is there already.

    python -m benchmarks.training_start [--quick] [--json FILE] [--folder FOLDER] [--keep]

makes a store of 1,700,000 frames (512 numbers) and their sound (768, ten steps a second), 500 clips
of as many people with label files, a fifth of them val. With --quick it is a tenth of that. A first
training packs the features. Then trainings are started in turns, with and without the statistics
that are kept with the bank, each in this process, so without imports, and ended after their first
step. `ratios` has the start without over the start with them. Needs 8 GB of disk, with --quick 1.
"""

import shutil
import time
from pathlib import Path

import numpy as np

from benchmarks.bank import N_CLIPS, made_store
from benchmarks.helpers.timing import Report, Seconds, arguments, in_turns
from features.clip import Clip
from features.manifest.labels import Labels, write_labels
from features.manifest.manifest import write_manifest
from features.store.feature_store import FeatureStore
from features.store.work_folder import banks_folder
from models.heads.dspl import DsplConfig
from models.stages.train_head import train_head
from models.training.config import TrainConfig
from models.training.loss_config import LossConfig
from models.training.pace import TrainingStep

N_ROWS, N_ROWS_QUICK = 3400, 340  # of each clip
N_ROUNDS = 5
HEAD = DsplConfig(width=32, prompts=None)
TRAIN = TrainConfig(epochs=1, loss=LossConfig(region_weight=0))


class FirstStep(Exception):
    """Ends a training after its first step."""


def main() -> None:
    """Make the data, measure, and take away what was made."""
    given = arguments(
        __doc__,
        folder={"type": Path, "default": Path("data/benchmarks/start")},
        keep={"action": "store_true", "help": "leave store, labels and bank there"},
    )
    report = Report()
    try:
        measure(given.folder, N_ROWS_QUICK if given.quick else N_ROWS, report)
    finally:
        if not given.keep:
            shutil.rmtree(given.folder, ignore_errors=True)
    report.write(given.json)


def measure(folder: Path, n_rows: int, report: Report) -> None:
    """Everything, in order."""
    report.numbers["rows"] = N_CLIPS * n_rows
    folder.mkdir(parents=True, exist_ok=True)
    store = made_store(folder / "features.zarr", n_rows)
    make_manifest(folder, n_rows)
    report.times_s["first start, packing included"] = [start(folder)]
    ways = {
        "start without statistics": lambda: start_without(folder, store),
        "start with statistics": lambda: start(folder),
    }
    start(folder)  # and the pages are in memory
    report.times_s |= in_turns(ways, N_ROUNDS)
    without_s, with_s = (report.median_s(name) for name in ways)
    report.ratios["start_without_over_with_statistics"] = without_s / with_s


def make_manifest(folder: Path, n_rows: int) -> None:
    """Label files, and a manifest in which every fifth clip is of the val split."""
    if (folder / "manifest.jsonl").exists():
        return
    rng, clips = np.random.default_rng(1), list[Clip]()
    for k in range(N_CLIPS):
        labels = Labels(rng.uniform(-1, 1, (n_rows, 2)), np.ones(n_rows, dtype=bool))
        write_labels(folder / f"clip-{k}.txt", labels)
        split = "train" if k % 5 else "val"
        clips.append(Clip(id=f"clip-{k}", labels=f"clip-{k}.txt", split=split, subject=str(k)))
    write_manifest(folder / "manifest.jsonl", clips)


def start(folder: Path) -> Seconds:
    """Seconds from the call of the stage to the end of the first step."""
    began = time.perf_counter()

    def end(_: TrainingStep) -> None:
        raise FirstStep

    try:
        train_head(
            manifest=folder / "manifest.jsonl",
            store=str(folder / "features.zarr"),
            run=folder / "run",
            head=HEAD,
            train=TRAIN,
            on_training_step=end,
        )
    except FirstStep:
        return Seconds(time.perf_counter() - began)
    raise RuntimeError("the training had no step")


def start_without(folder: Path, store: FeatureStore) -> Seconds:
    """The same, after the statistics were deleted."""
    for path in banks_folder(store.work).glob("*/statistics-*.json"):
        path.unlink()
    return start(folder)


if __name__ == "__main__":
    main()
