"""How fast the training bank is: packed from a store, opened, and read by random windows.

    python benchmarks/bank.py [--quick] [--json FILE] [--folder data/benchmarks/bank] [--keep]

makes a store of 3,000,000 frames of sight (512 numbers) and their sound (768, ten steps a second),
500 clips, with labels; has it packed, and opens it. With --quick it is a tenth of that. What takes
turns then reads the same random windows of the same rows, as float16 and both modalities: the bank
(16 windows at once, by index), `numpy.memmap` of the same files (window by window into one array),
h5py (one open file of two contiguous data sets), and zarr (the store's own arrays, opened once,
with the steps of sound that the window spans, not yet brought to the frames' times). The windows'
pages are in memory: a first round is not counted. All are held to equal values.

`ratios` is of windows of 20 rows, which is what the paper's window has of sight; of longer ones the
copying itself takes the time, whoever does it, and `numbers` tells of those. At the end a pass over
all windows of 300 rows, from the map as it is and streamed through a budget of memory: the
difference of their peaks is what the rows take. Needs 21 GB of disk, with --quick 2.
"""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import torch
import zarr

from benchmarks.helpers.blank_spec import blank_spec
from benchmarks.helpers.timing import Report, arguments, in_turns
from features.clip import Track
from features.manifest.labels import Labels
from features.store.feature_store import FeatureStore
from features.store.work_folder import banks_folder
from models.data.batches import shuffled_batches
from models.data.feature_sets import open_sets
from models.data.packed import PackedFeatures, index_rows
from models.data.packed_cache import load_packed
from models.data.placement import MIB, place_on_device
from models.data.windows import dense_windows

N_CLIPS = 500
N_ROWS, N_ROWS_QUICK = 6000, 600  # of each clip
WIDTHS = {"visual": 512, "audio": 768}
FRAME_S, STEP_S = 0.04, 0.1
AT_ONCE = 16  # windows of a batch
LENGTHS = (20, 50, 300)  # rows of a window: the paper's, the demo's, the default
ROWS_PER_TURN = 40_000  # of the fast ways; short turns measure the machine's other work
ZARR_BATCHES = 4
N_ROUNDS = 9
BUDGET_MIB, BUDGET_MIB_QUICK = 1024, 128
SPECS = {modality: blank_spec(kind) for modality, kind in (("visual", "clip"), ("audio", "ast"))}


def main() -> None:
    """Make the store, measure, and take away what was made."""
    given = arguments(
        __doc__,
        folder={"type": Path, "default": Path("data/benchmarks/bank")},
        keep={"action": "store_true", "help": "leave store, bank and HDF5 file there"},
    )
    report = Report()
    try:
        measure(given.folder, given.quick, report)
    finally:
        if not given.keep:
            shutil.rmtree(given.folder, ignore_errors=True)
    report.write(given.json)


def measure(folder: Path, quick: bool, report: Report) -> None:
    """Everything, in order."""
    n_rows = N_ROWS_QUICK if quick else N_ROWS
    report.numbers["rows"] = N_CLIPS * n_rows
    store = made_store(folder / "features.zarr", n_rows)
    labels = made_labels(n_rows)
    shutil.rmtree(banks_folder(store.work), ignore_errors=True)
    load = partial(load_packed, open_sets(str(store.path)), labels)
    with timed(report, "build"), peak_mib(report, "build_peak_mib"):
        load()
    for _ in range(3):
        with timed(report, "open"), peak_mib(report, "open_peak_mib"):
            bank = load()
    report.numbers["bank_mib"] = bank.n_bytes / MIB
    with h5py.File(made_hdf5(folder / "bank.h5", bank), "r") as file:
        for length in LENGTHS:
            ways = ways_to_read(store, bank, file, length, n_rows)
            times_s = in_turns(ways, N_ROUNDS)
            for name, found_s in times_s.items():
                n_windows = AT_ONCE * (ZARR_BATCHES if name == "zarr" else n_batches(length))
                report.times_s[f"window of {length}: {name}"] = [s / n_windows for s in found_s]
            compare(report, length)
    budget_mib = BUDGET_MIB_QUICK if quick else BUDGET_MIB
    streamed = place_on_device(bank, torch.device("cpu"), budget_mib)
    for name, each in (("whole pass", bank), ("streamed pass", streamed)):
        with timed(report, name), peak_mib(report, f"{name.replace(' ', '_')}_peak_mib"):
            windows = dense_windows(bank.offsets, size=LENGTHS[-1], stride=200)
            for _ in shuffled_batches(each, windows, np.random.default_rng(0), AT_ONCE):
                pass
    report.numbers["budget_mib"] = budget_mib
    report.numbers["streamed_rows_peak_mib"] = (  # the rest is the windows' own
        report.numbers["streamed_pass_peak_mib"] - report.numbers["whole_pass_peak_mib"]
    )


def compare(report: Report, length: int) -> None:
    """Ours against the others: the first as time, the others as speed-up."""
    median_s = {
        name: report.median_s(f"window of {length}: {name}")
        for name in ("bank", "memmap", "h5py", "zarr")
    }
    found = {
        "window_vs_memmap": median_s["bank"] / median_s["memmap"],
        "window_vs_h5py": median_s["h5py"] / median_s["bank"],
        "window_vs_zarr": median_s["zarr"] / median_s["bank"],
    }
    if length == LENGTHS[0]:
        report.ratios |= found
    else:
        report.numbers |= {f"{name}_{length}": ratio for name, ratio in found.items()}


def n_batches(length: int) -> int:
    """Batches of windows of so many rows that are read in a turn."""
    return ROWS_PER_TURN // (length * AT_ONCE)


def ways_to_read(
    store: FeatureStore, bank: PackedFeatures, file: h5py.File, length: int, n_rows: int
) -> dict[str, Callable[[], list[np.ndarray]]]:
    """What reads the same random windows; each gives the last batch, one array per modality."""
    rng = np.random.default_rng(length)
    windows = dense_windows(bank.offsets, size=length, stride=1)
    batches = rng.integers(0, len(windows), (n_batches(length), AT_ONCE))
    firsts = windows.first_row[batches]
    (banked,) = (banks_folder(store.work)).iterdir()
    maps = {name: np.load(banked / f"{name}.npy", mmap_mode="r") for name in WIDTHS}
    group = zarr.open_group(store.path, mode="r")
    tracks = {
        name: [group[f"{SPECS[name].name}/{clip_id}/values"] for clip_id in bank.clip_ids]
        for name in WIDTHS
    }

    def by_bank() -> list[np.ndarray]:
        for chosen in batches:
            rows = torch.from_numpy(windows.rows(chosen)["visual"].index)
            found = [index_rows(getattr(bank, name), rows) for name in WIDTHS]
        return [each.numpy() for each in found]

    def by_slices(arrays: dict) -> list[np.ndarray]:
        for first in firsts.tolist():
            found = []
            for name, width in WIDTHS.items():
                batch = np.empty((AT_ONCE, length, width), np.float16)
                for k, row in enumerate(first):
                    batch[k] = arrays[name][row : row + length]
                found.append(batch)
        return found

    def by_zarr() -> list[np.ndarray]:
        for first in firsts[:ZARR_BATCHES].tolist():
            found = []
            for name, steps in (("visual", 1.0), ("audio", FRAME_S / STEP_S)):
                n = max(1, round(length * steps))
                batch = np.empty((AT_ONCE, n, WIDTHS[name]), np.float16)
                for k, row in enumerate(first):
                    clip, place = divmod(row, n_rows)
                    start = min(round(place * steps), round(n_rows * steps) - n)
                    batch[k] = tracks[name][clip][start : start + n]
                found.append(batch)
        return found

    ways = {
        "bank": by_bank,
        "memmap": partial(by_slices, maps),
        "h5py": partial(by_slices, {name: file[name] for name in WIDTHS}),
        "zarr": by_zarr,
    }
    read = {name: way() for name, way in ways.items()}  # and the pages are in memory now
    for name in ("memmap", "h5py"):
        for ours, theirs in zip(read["bank"], read[name], strict=True):
            np.testing.assert_array_equal(ours, theirs)
    last = int(firsts[ZARR_BATCHES - 1, -1])
    np.testing.assert_array_equal(read["zarr"][0][-1], bank["visual"].values[last : last + length])
    return ways


def made_store(path: Path, n_rows: int) -> FeatureStore:
    """A store of seeded numbers; one that is there is taken as it is."""
    store = FeatureStore.open(path, create=True)
    rng = np.random.default_rng(0)
    clocks = {
        "visual": FRAME_S * np.arange(n_rows),
        "audio": STEP_S * (0.5 + np.arange(round(n_rows * FRAME_S / STEP_S))),
    }
    drawn = {
        name: rng.standard_normal((len(clocks[name]), width), np.float32).astype(np.float16)
        for name, width in WIDTHS.items()
    }
    for clip_id in made_labels(1):
        for name, time_s in clocks.items():
            if store.commit(SPECS[name].name, clip_id) is None:
                drawn[name] = np.roll(drawn[name], 1, axis=0)  # every clip has rows of its own
                track = Track(drawn[name], time_s, np.ones(len(time_s), dtype=bool))
                store.write(SPECS[name], clip_id, track, source={"id": clip_id}, provenance={})
    return store


def made_labels(n_rows: int) -> dict[str, Labels]:
    """Labels of every clip, by its id."""
    va = np.random.default_rng(1).uniform(-1, 1, (n_rows, 2))
    return {f"clip-{k}": Labels(va, np.ones(n_rows, dtype=bool)) for k in range(N_CLIPS)}


def made_hdf5(path: Path, bank: PackedFeatures) -> Path:
    """The rows of the bank in a contiguous data set per modality."""
    with h5py.File(path, "w") as file:
        for name in WIDTHS:
            values = getattr(bank, name).numpy()
            data = file.create_dataset(name, values.shape, np.float16)
            for _, span in bank.spans():
                data[span] = values[span]
    return path


@contextmanager
def timed(report: Report, name: str) -> Iterator[None]:
    """Within, time passes that is added to the report."""
    began = time.perf_counter()
    yield
    report.times_s.setdefault(name, []).append(time.perf_counter() - began)
    print(f"  {name}: {report.times_s[name][-1]:.4g} s", flush=True)


@contextmanager
def peak_mib(report: Report, name: str) -> Iterator[None]:
    """Within, the most memory that is this process's own, above what it was at the beginning.

    Pages of files are not: the system takes them back when it needs them.
    """
    before, peak, ended = own_mib(), [0.0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.005):
            peak[0] = max(peak[0], own_mib() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
        report.numbers[name] = max(peak[0], report.numbers.get(name, 0.0))


def own_mib() -> float:
    """Memory of this process that no file stands behind."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("this needs Linux: /proc/self/status does not say RssAnon")


if __name__ == "__main__":
    main()
