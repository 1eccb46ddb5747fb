"""A store on an object store: an S3 server (moto) on this machine."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from fsspec.config import conf
from s3fs import S3FileSystem

from features.clip import Clip
from features.errors import InputError, LaterVersion, StoreError, Unreachable
from features.maintenance.garbage import find_garbage
from features.maintenance.listing import info, listing
from features.maintenance.repair import repair
from features.maintenance.statistics.compute import statistics
from features.maintenance.status import status
from features.maintenance.verify import verify
from features.manifest.labels import Labels, write_labels
from features.manifest.manifest import write_manifest
from features.store.feature_store import FeatureStore
from features.store.location import absolute_path, backend_at
from features.store.s3_client import CONNECT_S, filesystem, s3_errors
from flows.command.main import main
from models.runs.folder import HEAD_FILE
from models.stages.score_head import score_head
from models.stages.train_head import train_head
from tests.helpers.small_heads import BRIEF, HEAD
from tests.helpers.small_media import tone
from tests.helpers.small_stores import (
    SOURCE,
    SPEC,
    TRACKS,
    content,
    make_track,
    same,
    state_of,
    write_clips,
    write_tracks,
)
from tests.helpers.synthetic import plant

pytestmark = [pytest.mark.slow, pytest.mark.operations]

TESTS = Path(__file__).parents[3] / "tests"
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
NUMBERS = count()
WAIT_S = 300  # for the server, on a busy machine
N_CLIPS, N_FRAMES = 5, 60


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of an S3 server; a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + WAIT_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    process.kill()
    process.wait()


@pytest.fixture
def environment(server, tmp_path, monkeypatch) -> None:
    """The environment that names the server."""
    S3FileSystem.clear_instance_cache()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    yield
    S3FileSystem.clear_instance_cache()


@pytest.fixture
def files(environment) -> S3FileSystem:
    return S3FileSystem(use_listings_cache=False)


@pytest.fixture
def bucket(files) -> str:
    """The URL of an empty bucket."""
    name = f"bucket-{next(NUMBERS)}"
    files.mkdir(name)
    return f"s3://{name}"


@pytest.fixture
def url(bucket, files, tmp_path) -> str:
    """A store of one feature set with `TRACKS`, copied from a folder."""
    return copied(files, write_tracks(tmp_path / "folder.zarr"), f"{bucket}/tracks.zarr")


def copied(files: S3FileSystem, root: Path, url: str) -> str:
    files.put(str(root) + "/", url.removeprefix("s3://"), recursive=True)
    return url


def objects(files: S3FileSystem, url: str) -> dict[str, bytes]:
    above = url.removeprefix("s3://")
    return {key.removeprefix(f"{above}/"): files.cat_file(key) for key in files.find(above)}


def is_found(url: str) -> bool:
    """Whether `verify` finds a problem."""
    try:
        return bool(verify(url).problems)
    except LaterVersion:  # a flip in the version
        return True


def key(url: str, *parts: str) -> str:
    return "/".join([url.removeprefix("s3://"), SPEC.name, *parts])


@pytest.mark.parametrize("stride", [4, pytest.param(1, marks=pytest.mark.torture)])
def test_a_killed_upload_leaves_the_old_record_none_or_the_new_and_a_killed_run_resumes(
    bucket, tmp_path, stride
):
    script = TESTS / "helpers" / "crash_upload.py"
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), f"{bucket}/s", str(stride)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(TESTS.parent), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    # killed before the commit is deleted; before a file or the commit is put; not killed
    assert (result["states"][0], result["states"][-1]) == ("old", "new")
    assert set(result["states"][1:-1]) == {"missing"}
    assert len(result["states"]) > 9 / stride
    # whenever the kill came, a clip that was complete is not read again, and no clip twice
    assert result["complete"]
    assert len(result["read again"]) == len(set(result["read again"]))
    assert not set(result["complete"]) & set(result["read again"])


def test_a_store_has_the_objects_that_a_folder_has_as_files(bucket, files, tmp_path):
    write_tracks(tmp_path / "folder.zarr")
    store = FeatureStore.open(f"{bucket}/a/b.zarr", create=True)
    for clip, track in TRACKS.items():
        note = None if len(track.values) else "the clip has no sound"
        store.write(SPEC, clip, track, source=SOURCE, provenance={"by": "a test"}, note=note)
    assert objects(files, f"{bucket}/a/b.zarr") == content(tmp_path / "folder.zarr")
    again = FeatureStore.open(f"{bucket}/a/b.zarr/")
    assert all(same(again.read(SPEC.name, clip), track) for clip, track in TRACKS.items())
    assert not list((again.work / "staging").iterdir())


def test_a_shorter_record_leaves_nothing_of_the_one_it_replaces(bucket, files, tmp_path):
    large, small = make_track(3000, 900), make_track(3, 900)
    for path in (f"{bucket}/s.zarr", str(tmp_path / "folder.zarr")):
        store = FeatureStore.open(path, create=True)
        for track in (large, small):
            store.write(SPEC, "a", track, source=SOURCE, provenance={})
    assert objects(files, f"{bucket}/s.zarr") == content(tmp_path / "folder.zarr")


def put_before_the_commit(monkeypatch, data: bytes | None = None) -> None:
    """Another machine commits these bytes, or the same, just before this one commits a record."""
    real = S3FileSystem._call_s3

    async def preceded(self, method, *rest, **keys):
        if method == "put_object" and "IfNoneMatch" in keys:
            others = {name: value for name, value in keys.items() if name != "IfNoneMatch"}
            await real(self, method, *rest, **{**others, "Body": data or keys["Body"]})
        return await real(self, method, *rest, **keys)

    monkeypatch.setattr(S3FileSystem, "_call_s3", preceded)


def test_the_commit_of_another_machine_is_not_overwritten(url, files, monkeypatch):
    store, other = FeatureStore.open(url), files.cat_file(key(url, "a", "zarr.json"))
    put_before_the_commit(monkeypatch, other)
    with pytest.raises(StoreError, match="committed by another machine at the same time"):
        store.write(SPEC, "a", TRACKS["a"], source=SOURCE, provenance={"by": "this machine"})
    assert files.cat_file(key(url, "a", "zarr.json")) == other


def test_a_commit_whose_answer_was_lost_is_not_taken_for_that_of_another_machine(url, monkeypatch):
    store = FeatureStore.open(url)
    put_before_the_commit(monkeypatch)
    store.write(SPEC, "a", make_track(seed=3), source=SOURCE, provenance={})
    assert same(store.read(SPEC.name, "a"), make_track(seed=3))


def test_each_object_that_is_changed_missing_or_extra_is_found(url, files):
    whole = verify(url)
    assert (whole.problems, whole.n_records) == ((), 4)
    files.rm(key(url, "large"), recursive=True)  # or it would be read for each object
    for name, data in objects(files, url).items():
        if name.split("/")[1:2] in (["zeros"], ["empty"]):
            continue
        at, flipped = f"{url.removeprefix('s3://')}/{name}", bytearray(data)
        flipped[len(data) // 2] ^= 1
        files.pipe_file(at, bytes(flipped))
        assert is_found(url), name
        if "/c/" in name or name.endswith(("/values/zarr.json", "/a/zarr.json")):
            with pytest.raises(StoreError):
                FeatureStore.open(url).read(SPEC.name, name.split("/")[1])
        files.rm_file(at)
        assert is_found(url), name
        files.pipe_file(at, data)
    files.pipe_file(key(url, "a", "values/c/7/0"), b"stray")
    files.pipe_file(key(url, "zeros", "../../x"), b"leads out")
    files.pipe_file(f"{url.removeprefix('s3://')}/letter.txt", b"dear")
    found = {problem.path: problem.what for problem in verify(url).problems}
    assert found.pop("letter.txt") == "does not belong here; move it away"
    assert found.pop(f"{SPEC.name}/a/values/c/7/0") == "does not belong to the record"
    assert "is no file of a record; delete it" in found.pop(f"{SPEC.name}/zeros")
    assert not found


def test_repair_moves_wrong_objects_out_and_the_record_is_missing_or_corrupt(url, files):
    data = files.cat_file(key(url, "large", "values/c/0/0"))
    files.pipe_file(key(url, "large", "values/c/0/0"), data[:-1] + bytes([data[-1] ^ 1]))
    files.pipe_file(key(url, "zeros", "zarr.json"), b"")
    files.pipe_file(key(url, "zeros", "../x"), b"leads out")
    store = FeatureStore.open(url)
    assert state_of(store, "zeros", SOURCE)[0] == "corrupt"
    done = repair(url, verify(url), [SPEC], set(TRACKS))
    assert not done.remaining
    assert state_of(store, "large", SOURCE) == (
        "corrupt",
        "values/c/0/0 is missing",
    )
    assert state_of(store, "zeros", SOURCE)[0] == "missing"
    away = {path.parent.name for path in (store.work / "removed").glob("*/*/*")}
    assert away == {f"{SPEC.name}.large", f"{SPEC.name}.zeros"}
    for clip in ("large", "zeros"):
        store.write(SPEC, clip, TRACKS[clip], source=SOURCE, provenance={})
    assert verify(url).problems == ()


def test_a_mixture_of_two_records_is_never_read(url, files):
    # as if two machines wrote it at once: the checksum of each chunk is right
    other = replace(TRACKS["a"], values=-TRACKS["a"].values)
    store = FeatureStore.open(url.replace("tracks", "other"), create=True)
    store.write(SPEC, "a", other, source=SOURCE, provenance={})
    chunk = files.cat_file(key(store.backend.path(), "a", "values/c/0/0"))
    files.pipe_file(key(url, "a", "values/c/0/0"), chunk)
    with pytest.raises(StoreError, match="values/c/0/0 was changed"):
        FeatureStore.open(url).read(SPEC.name, "a")


def test_statistics_equal_those_of_a_folder(url, bucket, files, tmp_path):
    folder = str(tmp_path / "folder.zarr")
    files.pipe_file(key(url, "a", "values/c/0/0"), b"x" * 34)
    chunk = tmp_path / f"folder.zarr/{SPEC.name}/a/values/c/0/0"
    chunk.write_bytes(b"x" * 34)
    (found,), (wanted,) = statistics(url), statistics(folder)
    assert found.as_json() == wanted.as_json()
    assert [each.clip for each in found.summary.damaged] == ["a", "large"]
    with pytest.raises(InputError, match="no such bucket"):
        statistics("s3://bucket-none/s.zarr")


def test_status_listing_and_info_equal_those_of_a_folder(bucket, files, tmp_path):
    write_clips(tmp_path)
    url = copied(files, tmp_path / "s.zarr", f"{bucket}/s.zarr")
    folder = str(tmp_path / "s.zarr")
    assert status(url, tmp_path / "m.jsonl") == status(folder, tmp_path / "m.jsonl")
    assert listing(url) == listing(folder)
    assert info(url, "a") == info(folder, "a")


def test_a_head_trained_from_a_bucket_equals_that_of_a_folder(bucket, files, tmp_path):
    planted = plant(tmp_path, ("train", "val"))
    url = copied(files, Path(planted.store), f"{bucket}/s.zarr")
    heads = []
    for name, store in (("folder", planted.store), ("bucket", url)):
        run = tmp_path / name
        train_head(run=run, head=HEAD, train=BRIEF, manifest=planted.manifest, store=store)
        heads.append((run / HEAD_FILE).read_bytes())
    assert heads[0] == heads[1]
    scored = [score_head(run=tmp_path / name) for name in ("folder", "bucket")]
    assert scored[0].score == scored[1].score


@pytest.fixture
def clips(tmp_path, make_video) -> list[Clip]:
    """Clips with labels, of four films, in a manifest m.jsonl."""
    rng, listed = np.random.default_rng(0), []
    for k in range(4):
        make_video(f"{k}.mp4", time_s=np.arange(N_FRAMES) / 25, sound=tone(N_FRAMES / 25, seed=k))
        va = rng.uniform(-0.9, 0.9, (N_FRAMES, 2))
        write_labels(tmp_path / f"{k}.txt", Labels(va, np.ones(N_FRAMES, bool)))
    for k in range(N_CLIPS):
        split = "train" if k < N_CLIPS - 2 else "val"
        listed.append(Clip(id=f"c{k}", video=f"{k % 4}.mp4", labels=f"{k % 4}.txt", split=split))
    write_manifest(tmp_path / "m.jsonl", listed)
    return listed


def test_the_command_extracts_what_a_bucket_lacks_and_a_head_is_trained_and_scored(
    bucket, files, clips, tmp_path, tiny_clip, tiny_ast, capsys
):
    store, manifest = f"{bucket}/a/s.zarr", str(tmp_path / "m.jsonl")
    keys = [f"manifest={manifest}", f"store={store}"]
    encoders = [{"kind": "clip", **tiny_clip}, {"kind": "ast", "model": tiny_ast, "hop_s": 0.64}]
    extract = ["run", "extract-features", *keys, f"encoders={json.dumps(encoders)}", "frames=whole"]
    assert main([*extract, "--only", "c1"]) == 0
    capsys.readouterr()
    assert main(["status", store, manifest, "--json"]) == 1
    counts = json.loads(capsys.readouterr().out)["counts"]
    assert counts == {"complete": 2, "missing": 2 * (N_CLIPS - 1)}

    assert main(extract) == 0
    assert f"{2 * (N_CLIPS - 1)} extracted, 2 already" in capsys.readouterr().out
    assert main(["verify", store]) == 0
    assert main(["status", store, manifest]) == 0
    run, head = tmp_path / "run", HEAD.model_dump_json()
    train = ["run", "train-head", *keys, f"run={run}", f"head={head}"]
    assert main([*train, f"train={BRIEF.model_dump_json()}"]) == 0
    assert main(["run", "score-head", f"run={run}"]) == 0
    scored = json.loads((run / "scores.json").read_text())["val"]
    assert (scored["n_clips"], scored["n_frames"]) == (2, 2 * N_FRAMES)


def test_garbage_collection_refuses_an_object_store(url):
    with pytest.raises(InputError, match="works on folders only; copy the store to a folder"):
        find_garbage(FeatureStore.open(url))


def test_a_missing_object_is_not_a_missing_bucket(url):
    with pytest.raises(FileNotFoundError), s3_errors(url) as files:
        files.cat_file(f"{url.removeprefix('s3://')}/nothing")


def test_an_invalid_url_is_refused(environment):
    for wrong in ("s3://bucket", "s3://bucket/a/../b", "s3://bucket//a", "s3://b?x/a"):
        with pytest.raises(InputError, match="is no s3://BUCKET/PREFIX"):
            backend_at(wrong)
    assert absolute_path("s3://bucket/a") == "s3://bucket/a"


def test_two_servers_have_two_work_folders(bucket, monkeypatch):
    here = backend_at(f"{bucket}/s").work
    S3FileSystem.clear_instance_cache()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert backend_at(f"{bucket}/s").work != here
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    work_folders = set()
    for region in ("eu-west-1", "us-east-2"):  # a bucket's name is the same in both
        S3FileSystem.clear_instance_cache()
        monkeypatch.setenv("AWS_REGION", region)
        work_folders.add(backend_at(f"{bucket}/s").work)
    assert len(work_folders) == 1


def test_an_unreachable_server_is_not_a_corrupt_record(url, monkeypatch):
    store = FeatureStore.open(url)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    S3FileSystem.clear_instance_cache()
    with pytest.raises(Unreachable, match="Could not connect.*AWS_ENDPOINT_URL"):
        state_of(store, "a", SOURCE)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "nowhere")
    S3FileSystem.clear_instance_cache()
    with pytest.raises(Unreachable, match="Invalid endpoint: nowhere"):
        store.read(SPEC.name, "a")


def test_options_come_from_the_configuration_of_fsspec(server, environment, tmp_path):
    (tmp_path / "any.json").write_text(json.dumps({"s3": {"endpoint_url": server}}))
    inherited = {k: v for k, v in os.environ.items() if k != "AWS_ENDPOINT_URL"}
    done = subprocess.run(
        [sys.executable, "-m", "flows", "ls", "s3://no-such-bucket/s"],
        capture_output=True,
        text=True,
        check=False,
        env={**inherited, "FSSPEC_CONFIG_DIR": str(tmp_path), **KEYS},
    )
    assert done.returncode == 2
    assert "there is no such bucket on this server" in done.stderr


def test_configured_time_outs_replace_the_defaults_one_by_one(environment, monkeypatch):
    quick = {"config_kwargs": {"read_timeout": 0.5}, "client_kwargs": {"region_name": "eu-west-1"}}
    monkeypatch.setitem(conf, "s3", quick)
    found = filesystem("s3://b/s")
    assert found.config_kwargs["read_timeout"] == 0.5
    assert found.config_kwargs["connect_timeout"] == CONNECT_S
    assert found.client_kwargs == {"region_name": "eu-west-1"}


def test_credentials_come_from_the_environment_and_not_from_a_configuration(
    environment, monkeypatch
):
    monkeypatch.setitem(conf, "s3", {"key": "k"})
    says = "holds 'key', and credentials come from the environment alone; .*AWS_SECRET_ACCESS_KEY"
    with pytest.raises(InputError, match=says):
        filesystem("s3://b/s")
    monkeypatch.setenv("FSSPEC_S3_KEY", "k")
    assert filesystem("s3://b/s").key == "k"


def test_missing_credentials_bucket_or_s3fs_are_named(url, monkeypatch):
    with pytest.raises(InputError, match="there is no such bucket on this server; make it"):
        FeatureStore.open("s3://no-such-bucket/s", create=True)
    with pytest.raises(InputError, match="there is no feature store at .*extract-features"):
        FeatureStore.open(f"{url}-not")
    with pytest.raises(InputError, match="exists and is no feature store"):
        FeatureStore.open(f"{url}/{SPEC.name}/a/values/c", create=True)
    for name in KEYS:
        monkeypatch.delenv(name)
    S3FileSystem.clear_instance_cache()
    with pytest.raises(InputError, match="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the env"):
        FeatureStore.open(url)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(InputError, match="this needs s3fs, which is not installed"):
        FeatureStore.open(url)
