"""Extraction on real Dask workers, one of which is killed.

The tests share two workers: each takes ten seconds to import what it needs.
"""

import os
import signal
import socket
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from distributed import LocalCluster

from features.clip import Clip
from features.encoders.ast import AstConfig
from features.encoders.clip import ClipConfig
from features.errors import Incomplete, InputError, Unreachable, WeightsError
from features.extraction.extract import extract_features
from features.extraction.options import ExtractionOptions
from features.maintenance.status import status
from features.maintenance.verify import verify
from features.manifest.manifest import write_manifest
from features.store.feature_store import FeatureStore
from features.system.locks import HeldLock
from flows.dask.cluster import cluster, connected, default_workers, n_workers_of
from flows.dask.shards import extract_on_dask
from flows.extract import extract_features as extract_features_flow
from tests.helpers.small_media import tone

pytestmark = [pytest.mark.slow, pytest.mark.operations]

N_CLIPS = 12
OF_A_SHARD = N_CLIPS // 2


@pytest.fixture(scope="module")
def scheduler():
    """A scheduler with two workers, processes that are replaced when they are killed."""
    with cluster(None, 2) as address:
        yield address


@pytest.fixture(autouse=True)
def two_shards(monkeypatch):
    """Shards of so few clips that each worker gets one."""
    monkeypatch.setattr("features.extraction.shards.MIN_CLIPS", OF_A_SHARD)


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


@pytest.fixture
def options(tmp_path, encoders):
    return ExtractionOptions(str(tmp_path / "s.zarr"), encoders, device="cpu", readers=1)


@pytest.fixture
def visual(options):
    return replace(options, encoders=options.encoders[:1])


def claim_a_clip(options: ExtractionOptions) -> HeldLock:
    """Claim a clip, so that a run cannot end before the claim is released."""
    store = FeatureStore.open(options.store, create=True)
    lock = store.claim(options.encoders[0].spec().name, "c00")
    assert lock is not None
    return lock


def assert_same_tracks(left: str, right: str) -> None:
    """Check that two stores hold the same tracks bit by bit."""
    a, b = FeatureStore.open(left), FeatureStore.open(right)
    assert a.feature_sets() == b.feature_sets()
    for name in a.feature_sets():
        for clip in (f"c{k:02d}" for k in range(N_CLIPS)):
            x, y = a.read(name, clip), b.read(name, clip)
            assert x.values.tobytes() == y.values.tobytes()
            assert x.time_s.tobytes() == y.time_s.tobytes()
            assert x.valid.tobytes() == y.valid.tobytes()


def published(store: str) -> dict[str, tuple[int, int]]:
    """The inode and the time of each record's commit, which change if it is published again."""
    commits = {}
    for path in Path(store).glob("*/*/zarr.json"):
        found = path.stat()
        commits[f"{path.parent.parent.name}/{path.parent.name}"] = (found.st_ino, found.st_mtime_ns)
    return commits


def test_a_killed_worker_is_replaced_and_each_clip_is_published_once(
    manifest, options, tmp_path, scheduler
):
    before_kill: dict[str, tuple[int, int]] = {}
    killed: list[int] = []
    reported, lock, has_ended = [], claim_a_clip(options), threading.Event()

    with connected(scheduler) as client:
        workers = client.run(os.getpid)

        def kill_a_worker() -> None:
            while len(before_kill) < 4 and not has_ended.wait(0.02):
                before_kill.update(published(options.store))
            try:
                busy = (worker for worker, shards in client.processing().items() if shards)
                killed.append(workers[next(busy)])
                os.kill(killed[0], signal.SIGKILL)
            finally:
                lock.release()  # until here the run could not end

        killer = threading.Thread(target=kill_a_worker)
        killer.start()
        try:
            result = extract_on_dask(
                manifest,
                options,
                scheduler=scheduler,
                workers=2,
                on_outcome=lambda outcome, total: reported.append((outcome, total)),
            )
        finally:
            has_ended.set()
            killer.join()
        client.wait_for_workers(2)
        assert killed[0] not in client.run(os.getpid).values()

    assert result.counts == {"extracted": 2 * N_CLIPS}
    assert all(total == 2 * N_CLIPS for _, total in reported)
    final = published(options.store)
    assert len(final) == 2 * N_CLIPS
    assert before_kill.items() <= final.items()
    assert not verify(options.store).problems
    assert status(options.store, manifest).is_complete
    local = replace(options, store=str(tmp_path / "local.zarr"))
    extract_features(manifest, local)
    assert_same_tracks(options.store, local.store)
    again = extract_on_dask(manifest, options, scheduler=None, workers=2)
    assert again.counts == {"present": 2 * N_CLIPS}
    assert published(options.store) == final


def test_the_flow_gives_the_same_store_and_ends_as_without_workers(
    server, tmp_path, make_video, tiny_clip, scheduler
):
    make_video("good.mp4", time_s=np.arange(20) / 25, sound=tone(0.8))
    (tmp_path / "bad.mp4").write_text("no video")
    clips = [Clip(id=name, video=f"{name}.mp4", split="train") for name in ("bad", "good")]
    write_manifest(tmp_path / "m.jsonl", clips)
    ends = []
    for runner, name in (("local", "a"), ("dask", "b")):
        keys = {"manifest": tmp_path / "m.jsonl", "store": str(tmp_path / f"{name}.zarr")}
        keys |= {"encoders": [{"kind": "clip", **tiny_clip}], "frames": "whole"}
        keys |= {"runner": runner, "scheduler": scheduler}
        with pytest.raises(Incomplete, match="1 extracted, .* 1 quarantined") as found:
            extract_features_flow(**keys)
        ends.append(str(found.value).partition("; these failed")[2])
    assert ends[0] == ends[1]
    (set_name,) = FeatureStore.open(str(tmp_path / "a.zarr")).feature_sets()
    a, b = (FeatureStore.open(str(tmp_path / f"{n}.zarr")).read(set_name, "good") for n in "ab")
    assert a.values.tobytes() == b.values.tobytes()


def test_the_number_of_workers_is_that_of_the_scheduler_or_the_given_one(scheduler):
    assert n_workers_of(scheduler, None) == 2
    assert n_workers_of(scheduler, 7) == 7
    assert n_workers_of(None, None) == default_workers()


def test_workers_of_a_stopped_run_finish_the_clips_they_have_started(
    manifest, visual, tmp_path, scheduler
):
    def should_continue() -> bool:
        return len(published(visual.store)) < 3

    lock = claim_a_clip(visual)  # or the workers may end before they are stopped
    result = extract_on_dask(
        manifest, visual, scheduler=scheduler, workers=2, should_continue=should_continue
    )
    lock.release()

    n_done = result.counts["extracted"]
    assert 3 <= n_done < N_CLIPS
    assert n_done == len(published(visual.store))
    assert {outcome.detail for outcome in result.failed} == {
        "it was not started: the run was stopped; run the same again"
    }
    work = tmp_path / "s.zarr.work"
    assert not list((work / "locks").iterdir())
    assert not list((work / "staging").iterdir())


def test_an_error_that_concerns_every_shard_ends_the_run(manifest, visual, tmp_path, scheduler):
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"no weights")
    wrong = ClipConfig(model=visual.encoders[0].model, pretrained=str(weights))
    with pytest.raises(WeightsError):
        extract_on_dask(
            manifest, replace(visual, encoders=(wrong,)), scheduler=scheduler, workers=2
        )


def test_the_clips_of_a_lost_shard_fail_with_its_error(manifest, visual, scheduler, monkeypatch):
    monkeypatch.setattr("flows.dask.shards.extract_on_worker", len)  # which takes one argument
    result = extract_on_dask(manifest, visual, scheduler=scheduler, workers=2)
    assert result.counts == {"failed": N_CLIPS}
    assert {outcome.detail for outcome in result.failed} == {
        "its shard was lost (len() takes exactly one argument (2 given)); run the same again"
    }


def test_a_scheduler_that_does_not_answer_or_has_no_worker_is_reported(monkeypatch):
    monkeypatch.setattr("flows.dask.cluster.ANSWER_S", 1)
    monkeypatch.setattr("flows.dask.cluster.WORKER_S", 1)
    with (
        pytest.raises(Unreachable, match=r"no Dask scheduler answers at tcp://127.0.0.1:1 "),
        cluster("tcp://127.0.0.1:1", None),
    ):
        pass
    with (
        pytest.raises(InputError, match="'nonsense://x' is not the address"),
        cluster("nonsense://x", None),
    ):
        pass
    with (
        LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0", host="127.0.0.1") as empty,
        pytest.raises(Unreachable, match="has had no worker for 1 s; start one: `dask worker tcp"),
        cluster(empty.scheduler_address, None),
    ):
        pass


def test_a_scheduler_that_accepts_a_connection_and_never_answers_is_reported(monkeypatch):
    monkeypatch.setattr("flows.dask.cluster.ANSWER_S", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(Unreachable, match="no Dask scheduler answers at"), connected(address):
            pass
