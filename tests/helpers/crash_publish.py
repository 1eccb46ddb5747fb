"""Processes that are killed, or get disk errors, at a chosen step of publishing a record.

    python tests/helpers/crash_publish.py FOLDER STRIDE

Replaces a record, killed or with other disturbances at every STRIDE-th step, and killed at steps
four times as close. Prints the exit statuses as JSON. The processes are forked, since starting an
interpreter for each would take minutes.
"""

import errno
import gc
import json
import os
import resource
import shutil
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from features.clip import Track
from features.freshness.clip_state import clip_state
from features.media.decoder_version import decoder_version
from features.spec import FeatureSpec
from features.store.feature_store import FeatureStore

SPEC = FeatureSpec(
    kind="clip",
    model={"name": "none"},
    weights_sha256="0" * 64,
    preprocessing={},
    sampling={},
    precision="float32",
)
SOURCE = {"video": "a" * 64}
STEPS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "fcntl.flock"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
NAMED = 7  # exit status of a child that raised an `OSError` with a path
Act = Callable[[str, bool], None]


def before_each_step(act: Act) -> None:
    """Call `act(event, is_writing)` before each call that changes the disk from now on."""

    def hook(event: str, arguments: tuple) -> None:
        if event not in STEPS:
            return
        is_opened_to_write = event == "open" and bool(arguments[2] & WRITING)
        if event != "open" or is_opened_to_write:
            act(event, is_opened_to_write or event == "os.mkdir")

    sys.addaudithook(hook)
    fsync = os.fsync

    def counted(handle: int) -> None:
        act("fsync", False)
        fsync(handle)

    os.fsync = counted


def killed_at(step: int) -> None:
    """Kill this process before the given step, counted from 1."""
    count = 0

    def act(*_: object) -> None:
        nonlocal count
        count += 1
        if count == step:
            os.kill(os.getpid(), signal.SIGKILL)

    before_each_step(act)


def full_from(step: int) -> None:
    """Make writes fail as on a full disk from the given step on; renames and removals work."""
    count = 0

    def act(_: str, is_writing: bool) -> None:
        nonlocal count
        count += 1
        if count >= step and is_writing:
            raise OSError(errno.ENOSPC, "No space left on device")

    before_each_step(act)


def failing_at(step: int) -> None:
    """Make the given step fail, once."""
    count = 0

    def act(*_: object) -> None:
        nonlocal count
        count += 1
        if count == step:
            raise OSError(errno.EIO, "Input/output error")

    before_each_step(act)


def small_files(n_bytes: int) -> None:
    """Limit the size of files."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, resource.RLIM_INFINITY))


def forked(*actions: Callable[[], object]) -> int:
    """Run these in a child; its exit status as in `Popen.returncode`."""
    sys.stdout.flush()
    child = os.fork()
    if not child:
        status = 1
        try:
            for action in actions:
                action()
            status = 0
        except OSError as error:
            status = NAMED if error.filename else 1
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def make_track(seed: int) -> Track:
    values = np.random.default_rng(seed).standard_normal((40, 8)).astype(np.float16)
    return Track(values, np.arange(40) / 25, np.ones(40, bool))


def write(path: Path, clip: str, seed: int) -> None:
    FeatureStore.open(path, create=True).write(
        SPEC, clip, make_track(seed), source=SOURCE, provenance={"seed": seed}
    )


def contents(path: Path) -> dict[str, bytes]:
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def check(path: Path, undisturbed: Path, way: str) -> None:
    """Check that every record is complete, and that writing again gives the undisturbed store."""
    if (path / "zarr.json").exists():
        store = FeatureStore.open(path)
        for name in store.feature_sets():
            clips = sorted(p.name for p in (path / name).iterdir() if p.is_dir())
            assert set(clips) <= {"a", "b"}, clips
            for clip in clips:
                found = clip_state(store, name, clip, SOURCE, decoder_version())
                assert found.state == "complete", (clip, found)
                values, allowed = store.read(name, clip).values, (1, 2) if clip == "a" else (3,)
                assert any(np.array_equal(values, make_track(s).values) for s in allowed)
            if way != "killed" and undisturbed.name == "replaced":
                assert clips == ["a", "b"], clips
    # If a removal fails, staging keeps files; if a file is over the size limit, zarr's thread may
    # go on with the next one: `vaflow gc` removes both.
    if way == "full":
        assert not list(path.with_name(path.name + ".work").glob("staging/*"))
    write(path, "a", 2)
    assert contents(path) == contents(undisturbed)


def main(folder: Path, stride: int) -> None:
    """Each disturbance, on a new record and on one that replaces another."""
    os.fsync = os.fstat  # a killed process needs no fsync, and waiting for the disk takes time
    make_track(0)  # imports numpy.random, which each child would import again
    gc.freeze()  # a collection in a child would copy the memory that it shares with this process
    statuses: dict[str, Counter[int]] = {}
    assert forked(lambda: write(folder / "new", "a", 2)) == 0
    first = folder / "first"
    assert forked(lambda: write(first, "a", 1), lambda: write(first, "b", 3)) == 0
    shutil.copytree(first, folder / "replaced")
    assert forked(lambda: write(folder / "replaced", "a", 2)) == 0
    ways: dict[str, Callable[[int], None]] = {
        "killed": killed_at,
        "full": full_from,
        "failing": failing_at,
        "small": lambda step: small_files(16 * step),
    }
    for way, disturb in ways.items():
        for kind in ("new", "replaced"):
            every = max(1, stride // 4) if (way, kind) == ("killed", "replaced") else stride
            statuses[f"{way} {kind}"] = Counter(ends(folder, kind, way, disturb, every))
    sys.stdout.write(json.dumps(statuses))


def ends(
    folder: Path, kind: str, way: str, disturb: Callable[[int], None], every: int
) -> Iterator[int]:
    """The exit statuses of children disturbed at every `every`-th step, to the last."""
    path, undisturbed = folder / "s.zarr", folder / kind
    for step in range(1, 1000, every):
        for leftover in (path, path.with_name("s.zarr.work")):
            shutil.rmtree(leftover, ignore_errors=True)
        if kind == "replaced":
            shutil.copytree(folder / "first", path)
        end = forked(partial(disturb, step), partial(write, path, "a", 2))
        checked = forked(partial(check, path, undisturbed, way))
        assert checked == 0, (way, kind, step)
        yield end
        if end == 0 and (way != "failing" or step > 100):  # failures of some steps are ignored
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
