"""Extractions with a trivial encoder, in processes that are killed.

    python tests/helpers/toy_extraction.py FOLDER N_KILLS N_PROCESSES

runs the scenarios of `test_durability.py` and prints their counts as JSON.
"""

import gc
import json
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from features.clip import Clip, Source, Track
from features.extraction import pipeline
from features.extraction.extract import extract_features
from features.extraction.options import ExtractionOptions
from features.extraction.outcome import ExtractionResult
from features.manifest.manifest import write_manifest
from features.media.worker.client import DecoderClient
from features.spec import FeatureSpec
from features.store.feature_store import FeatureStore

N_CLIPS, N_ROWS = 24, 30
SPEC = FeatureSpec(
    kind="clip",
    model={"name": "toy"},
    weights_sha256="0" * 64,
    preprocessing={},
    sampling={},
    precision="float32",
)


@dataclass(frozen=True)
class ToyConfig:
    """Takes the bytes of a file as its features, and logs each clip that it reads."""

    log: Path
    modality: str = "visual"
    precision: str = "bfloat16"

    def spec(self) -> FeatureSpec:
        return SPEC

    def build(self, _: torch.device) -> "ToyEncoder":
        return ToyEncoder(self.log)

    def model_dump(self, mode: str) -> dict[str, str]:
        return {"kind": mode}


class ToyEncoder:
    spec, modality, rate_hz = SPEC, "visual", None
    device, cpu_batch = torch.device("cpu"), 64

    def __init__(self, log: Path) -> None:
        self.log = log

    def read(self, source: Source, *_: object) -> Iterator[torch.Tensor | int]:
        with self.log.open("a") as log:
            log.write(f"{source.clip_id}\n")
        data = np.frombuffer(source.video.read_bytes(), np.uint8).astype(np.float32)
        for part in np.split(data, 3):
            yield torch.from_numpy(part)[:, None]
        yield len(data)

    def blank(self, n_items: int) -> torch.Tensor:
        return torch.zeros(n_items, 1)

    def encode(self, items: torch.Tensor) -> torch.Tensor:
        return items

    def assemble(self, outputs: Sequence[torch.Tensor], n_rows: int) -> tuple[Track, None]:
        values = torch.cat(list(outputs)).numpy().astype(np.float16)
        return Track(values, np.arange(n_rows) / 25, np.ones(n_rows, bool)), None


@dataclass(frozen=True)
class StoreUnderTest:
    """A store of its own for the clips of a folder."""

    folder: Path
    name: str

    @property
    def store(self) -> Path:
        return self.folder / f"{self.name}.zarr"

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def extract(self, batch_size: int | None = None, **hooks) -> ExtractionResult:
        encoders = (ToyConfig(self.log),)
        options = ExtractionOptions(str(self.store), encoders, batch_size=batch_size)
        return extract_features(self.folder / "m.jsonl", options, **hooks)

    def n_read(self) -> Counter[str]:
        """How often each clip was read."""
        return Counter(self.log.read_text().split()) if self.log.exists() else Counter()

    def digests(self) -> dict[str, dict[str, str]]:
        """The digests of the files of each visible record; each record is read to its end."""
        if not (self.store / "zarr.json").exists():
            return {}
        store, digests = FeatureStore.open(self.store), {}
        for name in store.feature_sets():
            for record in (path for path in (self.store / name).iterdir() if path.is_dir()):
                assert len(store.read(name, record.name).values) == N_ROWS
                digests[record.name] = store.commit(name, record.name).files
        return digests


def never_decode() -> None:
    """Start no decoding processes: this encoder reads files itself, and they would only be killed
    while they still import what they need."""
    DecoderClient.start = lambda self: None


def child(action: Callable[[], object]) -> int:
    """Run an action in a child process; returns its process id."""
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        status = 1
        try:
            action()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid


def end(pid: int) -> int:
    """Wait for a child; returns its exit code, or minus its signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def asked(question: Callable[[], object], pipe: tuple[int, int] | None = None) -> object:
    """The result of a function in a child; this process stays without threads, as fork requires."""
    read, write = pipe or os.pipe()

    def answer() -> None:
        with os.fdopen(write, "w") as file:
            json.dump(question(), file)

    pid = child(answer)
    os.close(write)
    with os.fdopen(read) as file:
        answered = file.read()
    assert end(pid) == 0
    return json.loads(answered)


def kill_before_call(owner: type, name: str, number: int) -> None:
    """Kill this process before the call of a method with this number, counted from 1."""
    method, n_calls = getattr(owner, name), 0

    def counted(*arguments, **keywords):
        nonlocal n_calls
        n_calls += 1
        if n_calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return method(*arguments, **keywords)

    setattr(owner, name, counted)


def assert_rest_is_extracted(target: StoreUnderTest, expected: dict) -> int:
    """After a kill, records are whole, and the next run reads exactly the clips without one."""
    stored = asked(target.digests)
    assert stored.items() <= expected.items()
    target.log.unlink(missing_ok=True)
    assert end(child(target.extract)) == 0
    assert target.n_read() == Counter({name: 1 for name in expected.keys() - stored.keys()})
    assert asked(target.digests) == expected
    return len(stored)


def killed_at_a_call(folder: Path, n_kills: int, expected: dict) -> int:
    """Runs killed while they read, encode, assemble or publish; returns how many."""
    draw = random.Random(0)
    calls = [
        (ToyEncoder, "read", N_CLIPS),
        (ToyEncoder, "encode", N_CLIPS * N_ROWS // 7),
        (ToyEncoder, "assemble", N_CLIPS),
        (FeatureStore, "write", N_CLIPS),
    ]
    for k in range(n_kills):
        target = StoreUnderTest(folder, f"killed{k}")
        owner, name, n_calls = calls[k % len(calls)]
        number = draw.randint(1, n_calls)

        def run(target=target, owner=owner, name=name, number=number) -> None:
            kill_before_call(owner, name, number)
            target.extract(batch_size=7)

        assert end(child(run)) == -signal.SIGKILL, (name, number)
        assert_rest_is_extracted(target, expected)
    return n_kills


def killed_after_outcomes(folder: Path, n_outcomes: int, expected: dict) -> int:
    """A run killed after some outcomes were reported; returns the number of stored clips."""
    target, reported = StoreUnderTest(folder, f"after{n_outcomes}"), []

    def on_outcome(outcome: object, _: int) -> None:
        reported.append(outcome)
        if len(reported) == n_outcomes:
            os.kill(os.getpid(), signal.SIGKILL)

    pid = child(lambda: target.extract(batch_size=7, on_outcome=on_outcome))
    assert end(pid) == -signal.SIGKILL
    return assert_rest_is_extracted(target, expected)


def together(folder: Path, n_processes: int, expected: dict) -> int:
    """Runs that start at the same time read each clip once; returns the number of reads."""
    target = StoreUnderTest(folder, "together")
    barrier = get_context("fork").Barrier(n_processes)

    def run() -> None:
        barrier.wait()
        target.extract(batch_size=50)

    pids = [child(run) for _ in range(n_processes)]
    assert [end(pid) for pid in pids] == [0] * n_processes
    assert asked(target.digests) == expected
    assert not list((folder / "together.zarr.work" / "locks").iterdir())
    return target.n_read().total()


def holder_killed(folder: Path, expected: dict) -> list[int]:
    """A run waits for a clip that another process has claimed, and extracts it when that dies.

    Returns the number of reads before and after its death.
    """
    target = StoreUnderTest(folder, "held")
    claimed, waiting = folder / "claimed", folder / "waiting"

    def hold() -> None:
        store = FeatureStore.open(target.store, create=True)
        assert store.claim(SPEC.name, "c03") is not None
        claimed.touch()
        signal.pause()

    def run() -> None:
        def sleep(seconds: float) -> None:  # only a pass that found no free clip sleeps
            waiting.touch()
            time.sleep(seconds)

        pipeline.time = type("Time", (), {"sleep": sleep, "monotonic": time.monotonic})
        target.extract()

    holder = child(hold)
    wait_for(claimed)
    runner = child(run)
    wait_for(waiting)
    n_before = target.n_read().total()
    os.kill(holder, signal.SIGKILL)
    assert end(holder) == -signal.SIGKILL
    assert end(runner) == 0
    assert asked(target.digests) == expected
    return [n_before, target.n_read().total()]


def wait_for(path: Path) -> None:
    """Wait until a file exists."""
    while not path.exists():
        time.sleep(0.01)


def main(folder: Path, n_kills: int, n_processes: int) -> None:
    """Run all scenarios on clips of random bytes."""
    os.fsync = os.fstat  # a killed process needs no fsync, and waiting for the disk takes time
    never_decode()
    gc.freeze()  # a collection in a child would copy the memory that it shares with this process
    draw = random.Random(0)
    names = [f"c{k:02d}" for k in range(N_CLIPS)]
    for name in names:
        (folder / f"{name}.mp4").write_bytes(draw.randbytes(N_ROWS))
    write_manifest(folder / "m.jsonl", [Clip(id=name, video=f"{name}.mp4") for name in names])
    undisturbed = StoreUnderTest(folder, "undisturbed")
    assert end(child(undisturbed.extract)) == 0
    expected = asked(undisturbed.digests)
    assert len(expected) == N_CLIPS
    counts = {
        "kills": killed_at_a_call(folder, n_kills, expected),
        "stored_after_outcomes": {
            n: killed_after_outcomes(folder, n, expected) for n in (1, 9, 23)
        },
        "reads_together": together(folder, n_processes, expected),
        "reads_of_holder": holder_killed(folder, expected),
    }
    sys.stdout.write(json.dumps(counts))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
