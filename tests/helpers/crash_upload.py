"""Processes that are killed at a chosen request to an object store, or in a run of extraction.

    python tests/helpers/crash_upload.py FOLDER URL STRIDE

First replaces a record, killed before every STRIDE-th request that changes the bucket; then kills
a run of extract-features and runs it again. Prints what a reader found, as JSON. Each process is
forked from one that has never sent a request, since an S3 client does not survive a fork.
"""

import gc
import json
import os
import random
import signal
import sys
from functools import partial
from pathlib import Path

import numpy as np
from s3fs import S3FileSystem

from features.clip import Clip
from features.extraction.extract import extract_features
from features.extraction.options import ExtractionOptions
from features.freshness.clip_state import clip_state
from features.manifest.manifest import write_manifest
from features.media.decoder_version import decoder_version
from features.store.feature_store import FeatureStore
from tests.helpers.crash_publish import SOURCE, SPEC, make_track
from tests.helpers.toy_extraction import N_ROWS, ToyConfig, asked, child, end, never_decode
from tests.helpers.toy_extraction import SPEC as TOY

N_CLIPS = 12
CHANGES = ("put_object", "delete_object", "delete_objects")


def kill_at(request: int) -> None:
    """Kill this process before the given request that changes the bucket, counted from 1."""
    real, count = S3FileSystem._call_s3, 0

    async def counted(self, method, *rest, **keys):
        nonlocal count
        count += method in CHANGES
        if count == request:
            os.kill(os.getpid(), signal.SIGKILL)
        return await real(self, method, *rest, **keys)

    S3FileSystem._call_s3 = counted


def write(store: str | Path, seed: int) -> None:
    FeatureStore.open(store, create=True).write(
        SPEC, "a", make_track(seed), source=SOURCE, provenance={"seed": seed}
    )


def objects(url: str) -> dict[str, str]:
    """The bytes of every object of a store, in hexadecimal, by path inside it."""
    client, above = S3FileSystem(use_listings_cache=False), url.removeprefix("s3://")
    stored = client.cat(client.find(above))
    return {key.removeprefix(f"{above}/"): data.hex() for key, data in stored.items()}


def files(root: Path) -> dict[str, str]:
    """The bytes of every file of a store in a folder, as `objects`."""
    paths = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes().hex() for path in paths}


def state_read(url: str) -> str:
    """Which of the two records of the clip a reader finds: "old", "new", or its state."""
    store = FeatureStore.open(url)
    state = clip_state(store, SPEC.name, "a", SOURCE, decoder_version()).state
    if state != "complete":
        return state
    values = store.read(SPEC.name, "a").values
    known = {"old": make_track(1).values, "new": make_track(2).values}
    return next(name for name in known if np.array_equal(values, known[name]))


def states_after_kills(folder: Path, url: str, stride: int) -> list[str]:
    """What is read after a kill before the first request of a publish, and before every
    `stride`-th after it; the last one is not killed.

    Written once more, the store has the bytes of one that was never disturbed.
    """
    write(folder / "undisturbed.zarr", 2)
    undisturbed, states = files(folder / "undisturbed.zarr"), []

    def replace(request: int) -> None:
        write(url, 1)
        kill_at(request)
        write(url, 2)

    def state_and_rewrite() -> tuple[str, dict[str, str]]:
        state = state_read(url)
        write(url, 2)
        return state, objects(url)

    for request in range(1, 100, stride):
        status = end(child(partial(replace, request)))
        state, stored = asked(state_and_rewrite)
        states.append(state)
        assert stored == undisturbed, request
        if status == 0:
            return states
    raise AssertionError("a publish takes more than 99 requests")


def resume_a_killed_run(folder: Path, url: str, n_outcomes: int) -> dict[str, list[str]]:
    """Kill a run after so many outcomes and run it again: what was complete, and what was read.

    In the end the store is that of a run that was not killed.
    """
    draw = random.Random(0)
    names = [f"c{k:02d}" for k in range(N_CLIPS)]
    for name in names:
        (folder / f"{name}.mp4").write_bytes(draw.randbytes(N_ROWS))
    manifest, log = folder / "m.jsonl", folder / "read.log"
    write_manifest(manifest, [Clip(id=name, video=f"{name}.mp4") for name in names])
    n_done = 0

    def on_outcome(*_: object) -> None:
        nonlocal n_done
        n_done += 1
        if n_done == n_outcomes:
            os.kill(os.getpid(), signal.SIGKILL)

    def extract(store: str, **hooks: object) -> None:
        options = ExtractionOptions(store, (ToyConfig(log),), batch_size=7)
        extract_features(manifest, options, **hooks)

    assert end(child(lambda: extract(url, on_outcome=on_outcome))) == -signal.SIGKILL
    complete = asked(partial(complete_clips, url, names))
    log.unlink()
    assert end(child(lambda: extract(url))) == 0
    read_again = log.read_text().split()
    local = folder / "local.zarr"
    assert end(child(lambda: extract(str(local)))) == 0
    stored, expected = asked(partial(objects, url)), files(local)
    assert stored.keys() == expected.keys()
    different = {name for name, data in expected.items() if stored[name] != data}
    commits = {f"{TOY.name}/{name}/zarr.json" for name in names}
    assert different <= commits, different  # only the provenance differs
    digests = asked(partial(committed_files, url, names))
    assert digests == asked(partial(committed_files, str(local), names))
    return {"complete": complete, "read again": read_again}


def complete_clips(store: str, names: list[str]) -> list[str]:
    opened = FeatureStore.open(store)
    return [name for name in names if opened.header(TOY.name, name).commit]


def committed_files(store: str, names: list[str]) -> dict[str, dict[str, str]]:
    opened = FeatureStore.open(store)
    return {name: opened.commit(TOY.name, name).files for name in names}


def main(folder: Path, url: str, stride: int) -> None:
    never_decode()
    gc.freeze()  # a collection in a child would copy the memory that it shares with this process
    states = states_after_kills(folder, f"{url}/replaced.zarr", stride)
    resumed = resume_a_killed_run(folder, f"{url}/e.zarr", N_CLIPS // 3)
    sys.stdout.write(json.dumps({"states": states, **resumed}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
