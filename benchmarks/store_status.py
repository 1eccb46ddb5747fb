"""How long `vaflow status` takes for many clips.

    python benchmarks/store_status.py --folder data/benchmarks/status --clips 100000

makes a store with one real record per clip (one is written, the others are hard links with a commit
of their own), as many small files of media and a manifest, and times the command in a new process.
What is made already is not made again: the second run finds the files in the memory of the system.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.helpers.blank_spec import blank_spec
from features.clip import Clip, Track
from features.manifest.manifest import write_manifest
from features.store.commit import encode_commit, make_commit, read_commit
from features.store.feature_store import FeatureStore
from features.store.layout import METADATA
from features.system.files import sha256_of
from features.system.provenance import provenance

N_ROWS, WIDTH = 20, 8  # of each record: the time does not depend on what is not read
LINKS_AT_MOST = 30_000  # to one file: file systems have limits
WANTED_S = 20.0
SPEC = blank_spec("ast")


def main() -> None:
    """Make what is missing, time the command, and fail where it takes too long."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("data/benchmarks/status"))
    parser.add_argument("--clips", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    manifest = arguments.folder / f"{arguments.clips}.jsonl"
    store = FeatureStore.open(arguments.folder / "s.zarr", create=True)
    if not manifest.exists():
        _make(arguments.folder, store, manifest, arguments.clips)
    worst_s = 0.0
    for _ in range(arguments.runs):
        began = time.monotonic()
        command = [sys.executable, "-m", "flows", "status", str(store.path), str(manifest)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        worst_s = max(worst_s, time.monotonic() - began)
        print(f"{time.monotonic() - began:.1f} s: {done.stdout.strip()}", flush=True)
        if done.returncode:
            raise SystemExit(done.stderr)
    if worst_s > WANTED_S:
        raise SystemExit(f"wanted: under {WANTED_S:.0f} s")


def _make(folder: Path, store: FeatureStore, manifest: Path, n_clips: int) -> None:
    """A clip per number, with media and record."""
    clips = [Clip(id=f"c{k:07d}", audio=f"media/{k % 1000}/{k}.wav") for k in range(n_clips)]
    for k, clip in enumerate(clips):
        if k % LINKS_AT_MOST == 0:
            pattern = _pattern(store, f"pattern{k}")
        media = folder / f"media/{k % 1000}/{k}.wav"
        media.parent.mkdir(parents=True, exist_ok=True)
        media.write_bytes(f"sound {k}".encode())
        place = store.path / SPEC.name / clip.id
        if not place.exists():
            _copy(pattern, place, {"sound": sha256_of(media)})
    write_manifest(manifest, clips)


def _pattern(store: FeatureStore, name: str) -> Path:
    """A real record."""
    track = Track(
        np.ones((N_ROWS, WIDTH), np.float16), np.arange(N_ROWS) / 10, np.ones(N_ROWS, bool)
    )
    store.write(SPEC, name, track, source={}, provenance=provenance())
    return store.path / SPEC.name / name


def _copy(pattern: Path, place: Path, source: dict[str, str]) -> None:
    """The record once more, of other media: links, and a commit of its own."""
    commit = read_commit(pattern)
    assert commit is not None
    for name in commit.files:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).hardlink_to(pattern / name)
    own = make_commit(source, commit.files, commit.provenance, None)
    (place / METADATA).write_bytes(encode_commit(own))


if __name__ == "__main__":
    main()
