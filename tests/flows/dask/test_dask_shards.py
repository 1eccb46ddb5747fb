"""Shards on real Dask workers, one of which is killed."""

import os
import signal
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from distributed import LocalCluster

from features.clip import Clip
from features.encoders.ast import AstConfig
from features.encoders.clip import ClipConfig
from features.errors import InputError, Unreachable, WeightsError
from features.extraction.extract import extract_features
from features.extraction.options import ExtractionOptions
from features.maintenance.status import status
from features.maintenance.verify import verify
from features.manifest.manifest import write_manifest
from features.media.limits import DEFAULT_LIMITS
from features.store.feature_store import FeatureStore
from flows.dask.cluster import cluster, connected, default_workers, n_workers_of
from flows.dask.shards import extract_on_dask
from tests.helpers.small_media import tone

N_CLIPS = 64


@pytest.fixture(scope="module")
def scheduler():
    """Two workers on this machine, each a process that can be killed; another takes its place."""
    with cluster(None, 2) as address:
        yield address


@pytest.fixture
def encoders(tiny_clip, tiny_ast):
    return (ClipConfig(**tiny_clip), AstConfig(model=tiny_ast, hop_s=0.64))


@pytest.fixture
def manifest(tmp_path, make_video) -> Path:
    """Clips of four lengths."""
    for k in range(4):
        make_video(f"v{k}.mp4", time_s=np.arange(20 + k) / 25, sound=tone(0.9, seed=k))
    clips = [Clip(id=f"c{k:02d}", video=f"v{k % 4}.mp4") for k in range(N_CLIPS)]
    write_manifest(tmp_path / "m.jsonl", clips)
    return tmp_path / "m.jsonl"


def request_of(store: Path, encoders, *, device="cpu", force=False) -> ExtractionOptions:
    return ExtractionOptions(
        str(store), encoders, device, None, 1, DEFAULT_LIMITS, failed=False, force=force
    )


def run(manifest, store, encoders, scheduler, *, on_next=lambda: True, **keys):
    told = []
    result = extract_on_dask(
        manifest,
        request_of(store, encoders, **keys),
        only=(),
        scheduler=scheduler,
        workers=2,
        on_outcome=lambda outcome, n_all: told.append((outcome, n_all)),
        on_next=on_next,
    )
    return result, told


def same(left: Path, right: Path) -> bool:
    """Whether two stores hold the same tracks, bit by bit."""
    a, b = FeatureStore.open(str(left)), FeatureStore.open(str(right))
    assert a.feature_sets() == b.feature_sets()
    clips = [f"c{k:02d}" for k in range(N_CLIPS)]
    tracks = [(a.read(n, c), b.read(n, c)) for n in a.feature_sets() for c in clips]
    return all(
        (x.values.tobytes(), x.time_s.tobytes(), x.valid.tobytes())
        == (y.values.tobytes(), y.time_s.tobytes(), y.valid.tobytes())
        for x, y in tracks
    )


def published(store: Path) -> dict[str, tuple[int, int]]:
    """Each record by its commit: a record that is made again is another file."""
    found = {}
    for path in store.glob("*/*/zarr.json"):
        looked = path.stat()
        found[f"{path.parent.parent.name}/{path.parent.name}"] = (looked.st_ino, looked.st_mtime_ns)
    return found


def test_a_worker_that_is_killed_costs_nothing_but_time(manifest, encoders, tmp_path, scheduler):
    store = tmp_path / "dask.zarr"
    first: dict[str, tuple[int, int]] = {}
    with connected(scheduler) as client:
        before = set(client.run(os.getpid).values())
        over = threading.Event()

        def kill_one_and_watch():
            killed = False
            while not over.is_set():
                for name, looked in published(store).items():
                    first.setdefault(name, looked)
                if not killed and len(first) >= 10:
                    os.kill(min(before), signal.SIGKILL)
                    killed = True
                time.sleep(0.02)

        watcher = threading.Thread(target=kill_one_and_watch)
        watcher.start()
        try:
            result, told = run(manifest, store, encoders, scheduler)
        finally:
            over.set()
            watcher.join()
        assert set(client.run(os.getpid).values()) != before  # it was killed
    assert result.counts == {"extracted": 2 * N_CLIPS}
    assert all(n_all == 2 * N_CLIPS for _, n_all in told)
    final = published(store)
    assert len(final) == 2 * N_CLIPS
    assert {name: final[name] for name in first} == first  # each was published once
    assert not verify(str(store)).problems
    assert status(str(store), manifest).is_complete
    extract_features(
        manifest, ExtractionOptions(str(tmp_path / "here.zarr"), encoders, device="cpu")
    )
    assert same(store, tmp_path / "here.zarr")
    again, _ = run(manifest, store, encoders, None)
    assert again.counts == {"present": 2 * N_CLIPS}
    assert published(store) == final


def test_a_run_is_dealt_out_to_the_workers_that_there_are(scheduler):
    assert n_workers_of(scheduler, None) == 2
    assert n_workers_of(scheduler, 7) == 7
    assert n_workers_of(None, None) == default_workers()


def test_told_to_stop_workers_finish_what_they_have_begun(manifest, encoders, tmp_path, scheduler):
    store = tmp_path / "s.zarr"
    result, _ = run(
        manifest, store, encoders[:1], scheduler, on_next=lambda: len(published(store)) < 3
    )
    n_done = result.counts["extracted"]
    assert 3 <= n_done < N_CLIPS
    assert n_done == len(published(store))
    assert {o.detail for o in result.failed} == {
        "it was not begun, for the run was stopped; run the same again"
    }
    assert not list((tmp_path / "s.zarr.work" / "locks").iterdir())
    assert not list((tmp_path / "s.zarr.work" / "staging").iterdir())


def test_what_is_wrong_for_every_shard_ends_the_run(manifest, encoders, tmp_path, scheduler):
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"no weights")
    wrong = ClipConfig(model=encoders[0].model, pretrained=str(weights))
    with pytest.raises(WeightsError):
        run(manifest, tmp_path / "s.zarr", (wrong,), scheduler)


def test_a_shard_that_is_lost_is_told_of(manifest, encoders, tmp_path, scheduler, monkeypatch):
    monkeypatch.setattr("flows.dask.shards.on_worker", len)  # which takes no two arguments
    result, _ = run(manifest, tmp_path / "s.zarr", encoders[:1], scheduler)
    assert result.counts == {"failed": N_CLIPS}
    assert {o.detail for o in result.failed} == {
        "its shard was lost (len() takes exactly one argument (2 given)); run the same again"
    }


def test_a_scheduler_that_does_not_answer_or_has_no_worker_is_told_of(monkeypatch):
    monkeypatch.setattr("flows.dask.cluster.ANSWER_S", 1)
    monkeypatch.setattr("flows.dask.cluster.WORKER_S", 1)
    with (
        pytest.raises(Unreachable, match=r"no Dask scheduler answers at tcp://127.0.0.1:1 "),
        cluster("tcp://127.0.0.1:1", None),
    ):
        pass
    with (
        pytest.raises(InputError, match="'nonsense://x' is no address"),
        cluster("nonsense://x", None),
    ):
        pass
    with (
        LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0", host="127.0.0.1") as empty,
        pytest.raises(Unreachable, match="has had no worker for 1 s; start one: `dask worker tcp"),
        cluster(empty.scheduler_address, None),
    ):
        pass


def test_a_scheduler_that_takes_a_call_and_never_speaks_is_not_waited_for(monkeypatch):
    monkeypatch.setattr("flows.dask.cluster.ANSWER_S", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(Unreachable, match="no Dask scheduler answers at"), connected(address):
            pass
