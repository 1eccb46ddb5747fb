"""Children that are killed at a chosen request to an object store, or after so many clips.

    python tests/bucket_steps.py FOLDER URL

replaces a record and is killed before each change that it asks for, then kills a run of
extract-features and goes on with it; prints what was seen, as JSON. They are forked, by a process
that has never asked the server: a client does not survive that.
"""

import json
import os
import random
import shutil
import signal
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
from s3fs import S3FileSystem

from features.clip import Clip
from features.extraction.extract import extract_features
from features.extraction.options import ExtractionOptions
from features.manifest.manifest import write_manifest
from features.store.feature_store import FeatureStore
from tests.helpers.crash_publish import SOURCE, SPEC, make_track
from tests.helpers.small_stores import state_of
from tests.helpers.toy_extraction import N_CLIPS, N_ROWS, ToyConfig, asked, child, end
from tests.helpers.toy_extraction import SPEC as TOY

CHANGES = ("put_object", "delete_object", "delete_objects")


def killed_at(request: int) -> None:
    """Die before the given request that changes the bucket, counted from 1."""
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


def contents(url: str) -> dict[str, str]:
    """Every object of a store by path inside it, in hexadecimal."""
    files, above = S3FileSystem(use_listings_cache=False), url.removeprefix("s3://")
    found = files.cat(files.find(above))
    return {key.removeprefix(f"{above}/"): data.hex() for key, data in found.items()}


def files_of(root: Path) -> dict[str, str]:
    """The same of a folder."""
    paths = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes().hex() for path in paths}


def seen(url: str) -> str:
    """What a reader finds of the clip."""
    store = FeatureStore.open(url)
    state, _ = state_of(store, "a", SOURCE)
    if state != "complete":
        return state
    values = store.read(SPEC.name, "a").values
    known = {"old": make_track(1).values, "new": make_track(2).values}
    return next(name for name in known if np.array_equal(values, known[name]))


def replaced(folder: Path, url: str) -> list[str]:
    """What is seen after a kill before each request; done once more, all is as undisturbed."""
    write(folder / "calm.zarr", 2)
    calm, met = files_of(folder / "calm.zarr"), []

    def disturbed(request: int) -> None:
        write(url, 1)
        killed_at(request)
        write(url, 2)

    def after() -> tuple[str, dict[str, str]]:
        found = seen(url)
        write(url, 2)
        return found, contents(url)

    for request in range(1, 100):
        ended = end(child(partial(disturbed, request)))
        found, stored = asked(after)
        met.append(found)
        assert stored == calm, request
        if ended == 0:
            return met
    raise AssertionError("it has no end")


def resumed(folder: Path, url: str, n_commits: int) -> dict[str, int]:
    """A run that is killed when so many clips are stored; the next does exactly the rest."""
    draw = random.Random(0)
    names = [f"c{k:02d}" for k in range(N_CLIPS)]
    for name in names:
        (folder / f"{name}.mp4").write_bytes(draw.randbytes(N_ROWS))
    manifest, log = folder / "m.jsonl", folder / "read.log"
    write_manifest(manifest, [Clip(id=name, video=f"{name}.mp4") for name in names])
    done = 0

    def on_outcome(*_: object) -> None:
        nonlocal done
        done += 1
        if done == n_commits:
            os.kill(os.getpid(), signal.SIGKILL)

    def extract(store: str, **hooks: object) -> None:
        options = ExtractionOptions(store, (ToyConfig(log),), batch_size=7)
        extract_features(manifest, options, **hooks)

    assert end(child(lambda: extract(url, on_outcome=on_outcome))) == -signal.SIGKILL
    log.unlink()
    assert end(child(lambda: extract(url))) == 0
    again = Counter(log.read_text().split())
    assert set(again.values()) == {1}
    local = folder / "local.zarr"
    assert end(child(lambda: extract(str(local)))) == 0
    (found, digests), wanted = (
        asked(lambda: (contents(url), digests_of(url, names))),
        files_of(local),
    )
    assert found.keys() == wanted.keys()
    differ = {name for name, data in wanted.items() if found[name] != data}
    assert differ <= {f"{TOY.name}/{name}/zarr.json" for name in names}, differ  # who made it
    assert digests == asked(partial(digests_of, str(local), names))
    return {"rest": again.total(), "objects": len(found)}


def digests_of(store: str, names: list[str]) -> dict[str, dict[str, str]]:
    opened = FeatureStore.open(store)
    return {name: opened.commit(TOY.name, name).files for name in names}


def main(folder: Path, url: str) -> None:
    met = replaced(folder, f"{url}/replaced.zarr")
    shutil.rmtree(folder / "calm.zarr")
    sys.stdout.write(json.dumps({"replaced": met, "resumed": resumed(folder, f"{url}/e.zarr", 9)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
