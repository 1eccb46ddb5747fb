"""Runs of extract-features with an encoder that costs nothing, in processes that are killed.

    python tests/toy_extraction.py FOLDER N_KILLS N_PROCESSES

does what test_durability.py tells of, and prints what it counted as JSON.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from features.clip import Clip, Source, Track
from features.extraction.extract import extract_features
from features.extraction.outcome import ExtractionResult
from features.manifest.manifest import write_manifest
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
    """Takes the bytes of a file for its features, and notes each file that it reads."""

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

    def read(self, source: Source, *_: object) -> Generator[torch.Tensor, None, int]:
        with self.log.open("a") as log:
            log.write(f"{source.clip_id}\n")
        data = np.frombuffer(source.video.read_bytes(), np.uint8).astype(np.float32)
        for part in np.split(data, 3):
            yield torch.from_numpy(part)[:, None]
        return len(data)

    def blank(self, n_items: int) -> torch.Tensor:
        return torch.zeros(n_items, 1)

    def encode(self, items: torch.Tensor) -> torch.Tensor:
        return items

    def assemble(self, outputs: Sequence[torch.Tensor], n_rows: int) -> tuple[Track, None]:
        values = torch.cat(list(outputs)).numpy().astype(np.float16)
        return Track(values, np.arange(n_rows) / 25, np.ones(n_rows, bool)), None


@dataclass(frozen=True)
class Place:
    """A store of its own for the same clips."""

    folder: Path
    name: str

    @property
    def store(self) -> Path:
        return self.folder / f"{self.name}.zarr"

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def extract(self, **keys) -> ExtractionResult:
        manifest = self.folder / "m.jsonl"
        return extract_features(manifest, str(self.store), [ToyConfig(self.log)], **keys)

    def n_read(self) -> Counter[str]:
        return Counter(self.log.read_text().split()) if self.log.exists() else Counter()

    def whole(self) -> dict[str, dict[str, str]]:
        """The files of each clip that can be seen; each is read to its last byte."""
        if not (self.store / "zarr.json").exists():
            return {}
        store, found = FeatureStore.open(self.store), {}
        for name in store.feature_sets():
            for place in (p for p in (self.store / name).iterdir() if p.is_dir()):
                assert len(store.read(name, place.name).values) == N_ROWS
                found[place.name] = store.commit(name, place.name).files
        return found


def child(action: Callable[[], object]) -> int:
    """Begin this in a child; its process id."""
    sys.stdout.flush()
    number = os.fork()
    if not number:
        status = 1
        try:
            action()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return number


def end(number: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


def asked(question: Callable[[], object], pipe: tuple[int, int] | None = None) -> object:
    """The answer of a child: this process stays without threads, so that it can be forked."""
    read, write = pipe or os.pipe()

    def answer() -> None:
        with os.fdopen(write, "w") as file:
            json.dump(question(), file)

    number = child(answer)
    os.close(write)
    with os.fdopen(read) as file:
        said = file.read()
    assert end(number) == 0
    return json.loads(said)


@contextmanager
def slow_reading(seconds: float) -> Iterator[None]:
    """Within, each clip takes so long to read: others come by while it is claimed."""
    real = ToyEncoder.read

    def read(self, source, *rest):
        time.sleep(seconds)
        return (yield from real(self, source, *rest))

    ToyEncoder.read = read
    yield
    ToyEncoder.read = real


def kills(folder: Path, n_kills: int, expected: object, took_s: float) -> dict[str, int]:
    """Killed at random times; what is seen is whole, and a re-run reads exactly the rest."""
    draw, n_interrupted = random.Random(0), 0
    for k in range(n_kills):
        place = Place(folder, f"killed{k}")
        number = child(place.extract)
        time.sleep(draw.uniform(0, 1.1 * took_s))
        os.kill(number, signal.SIGKILL)
        end(number)
        seen = asked(place.whole)
        assert seen.items() <= expected.items()
        n_interrupted += 0 < len(seen) < N_CLIPS
        place.log.unlink(missing_ok=True)
        assert end(child(place.extract)) == 0
        assert place.n_read() == Counter({name: 1 for name in expected.keys() - seen.keys()})
        assert asked(place.whole) == expected
    return {"kills": n_kills, "interrupted": n_interrupted}


def killed_after(folder: Path, n_commits: int, expected: object) -> dict[str, int]:
    """Killed when so many clips are known to be stored; the next run reads exactly the others."""
    place = Place(folder, f"after{n_commits}")
    done = 0

    def on_outcome(*_: object) -> None:
        nonlocal done
        done += 1
        if done == n_commits:
            os.kill(os.getpid(), signal.SIGKILL)

    assert end(child(lambda: place.extract(on_outcome=on_outcome, batch_size=7))) == -9
    seen = asked(place.whole)
    place.log.unlink()
    assert end(child(place.extract)) == 0
    assert place.n_read() == Counter({name: 1 for name in expected.keys() - seen.keys()})
    assert asked(place.whole) == expected
    return {"commits": n_commits, "seen": len(seen)}


def together(folder: Path, n_processes: int, expected: object) -> dict[str, int]:
    """Several runs at once: each clip is read once, whoever does it."""
    place = Place(folder, "together")
    with slow_reading(0.02):
        numbers = [child(lambda: place.extract(batch_size=50)) for _ in range(n_processes)]
        assert [end(number) for number in numbers] == [0] * n_processes
    assert asked(place.whole) == expected
    assert not list((folder / "together.zarr.work" / "locks").iterdir())
    return {"processes": n_processes, "read": place.n_read().total()}


def holder_killed(folder: Path, expected: object) -> dict[str, float]:
    """Another run goes on with all clips but the one that is held, and takes that over."""
    place, ready = Place(folder, "held"), folder / "held.ready"

    def hold() -> None:
        store = FeatureStore.open(place.store, create=True)
        held = store.claim(SPEC.name, "c03")
        assert held is not None
        ready.touch()
        time.sleep(600)

    holder = child(hold)
    while not ready.exists():
        time.sleep(0.01)
    runner = child(place.extract)
    while place.n_read().total() < N_CLIPS - 1:
        time.sleep(0.01)
    time.sleep(0.3)
    n_before = place.n_read().total()
    assert os.waitpid(runner, os.WNOHANG) == (0, 0)  # it waits for the holder
    os.kill(holder, signal.SIGKILL)
    end(holder)
    began = time.monotonic()
    assert end(runner) == 0
    delay_s = time.monotonic() - began
    assert asked(place.whole) == expected
    return {"before": n_before, "after": place.n_read().total(), "delay_s": delay_s}


def main(folder: Path, n_kills: int, n_processes: int) -> None:
    """Everything, on clips of random bytes."""
    draw = random.Random(0)
    names = [f"c{k:02d}" for k in range(N_CLIPS)]
    for name in names:
        (folder / f"{name}.mp4").write_bytes(draw.randbytes(N_ROWS))
    write_manifest(folder / "m.jsonl", [Clip(id=name, video=f"{name}.mp4") for name in names])
    calm = Place(folder, "calm")
    began = time.monotonic()
    assert end(child(calm.extract)) == 0
    took_s = time.monotonic() - began
    expected = asked(calm.whole)
    assert len(expected) == N_CLIPS
    counted = {
        "kills": kills(folder, n_kills, expected, took_s),
        "killed_after": [killed_after(folder, n, expected) for n in (1, 9, 23)],
        "together": together(folder, n_processes, expected),
        "holder": holder_killed(folder, expected),
    }
    sys.stdout.write(json.dumps(counted))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
