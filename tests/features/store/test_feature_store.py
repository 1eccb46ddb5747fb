import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import zarr

from features.canonical_json import canonical
from features.clip import Track
from features.errors import InputError, LaterVersion, StoreError
from features.store.commit import encode_group
from features.store.feature_store import FeatureStore
from features.store.location import absolute_path
from features.store.record import write_staged
from features.system.locks import file_lock
from tests.helpers.small_stores import SOURCE, SPEC, make_track, same, state_of

pytestmark = pytest.mark.slow


@pytest.fixture
def store(tmp_path) -> FeatureStore:
    return FeatureStore.open(tmp_path / "s.zarr", create=True)


def write(store: FeatureStore, clip: str = "a", track: Track | None = None, **changes):
    source = {"source": SOURCE, "provenance": {"by": "a test"}}
    return store.write(SPEC, clip, track or make_track(), **{**source, **changes})


def test_a_track_is_read_as_it_was_written(store):
    write(store)
    assert same(store.read(SPEC.name, "a"), make_track())
    assert store.feature_sets() == {SPEC.name: SPEC}
    assert state_of(store, "a", SOURCE) == ("complete", "")


def test_plain_zarr_reads_a_store_without_a_warning(store):
    write(store)
    group = zarr.open_group(store.path, mode="r")
    np.testing.assert_array_equal(group[f"{SPEC.name}/a/values"][:], make_track().values)
    assert group[SPEC.name].attrs["weights_sha256"] == SPEC.weights_sha256
    assert sorted(group[SPEC.name].group_keys()) == ["a"]  # nothing but records lies inside


def test_a_large_track_has_chunks_of_at_most_four_mebibytes(store):
    write(store, track=make_track(9000, 512))
    files = [p for p in (store.path / SPEC.name / "a" / "values" / "c").rglob("*") if p.is_file()]
    assert len(files) == 3
    assert max(path.stat().st_size for path in files) <= 4 * 2**20 + 4
    assert same(store.read(SPEC.name, "a"), make_track(9000, 512))


def test_an_empty_track_is_a_record_with_its_reason(store):
    empty = Track(np.zeros((0, 4), np.float16), np.zeros(0), np.zeros(0, bool))
    write(store, track=empty, note="the clip has no sound")
    assert store.read(SPEC.name, "a").values.shape == (0, 4)
    assert state_of(store, "a", SOURCE) == (
        "complete",
        "the clip has no sound",
    )


def test_the_chunks_of_a_track_of_zeros_are_stored(store):
    zeros = Track(np.zeros((4, 2), np.float16), np.arange(4.0), np.zeros(4, bool))
    write(store, track=zeros)
    assert same(store.read(SPEC.name, "a"), zeros)
    chunks = ("values/c/0/0", "time_s/c/0", "valid/c/0")  # so that a missing one is noticed
    assert set(chunks) <= set(store.commit(SPEC.name, "a").files)


def test_the_old_record_comes_back_if_the_new_one_cannot_be_renamed_into_place(store, monkeypatch):
    write(store)
    rename, met = os.rename, []

    def refused(source, target):
        if str(target).endswith("/a") and not met:
            met.append(source)
            raise OSError(errno.EIO, "Input/output error")
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", refused)
        with pytest.raises(OSError, match="Input/output error"):
            write(store, track=make_track(seed=1))
    assert same(store.read(SPEC.name, "a"), make_track())


def test_a_changed_source_is_stale_and_is_replaced(store):
    write(store)
    assert state_of(store, "a", {})[0] == "stale"  # a part that is gone is a change
    newer = {"video": "b" * 64}
    assert state_of(store, "a", newer) == ("stale", "source changed: video")
    write(store, track=make_track(seed=1), source=newer)
    assert state_of(store, "a", newer)[0] == "complete"
    assert same(store.read(SPEC.name, "a"), make_track(seed=1))
    assert not list((store.work / "staging").iterdir())


def test_a_store_can_be_moved(store, tmp_path):
    write(store)
    store.path.rename(tmp_path / "moved.zarr")
    moved = FeatureStore.open(tmp_path / "moved.zarr")
    assert state_of(moved, "a", SOURCE)[0] == "complete"
    assert same(moved.read(SPEC.name, "a"), make_track())


def test_an_absolute_path_does_not_depend_on_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute_path("s.zarr") == str(tmp_path / "s.zarr")
    assert absolute_path("/far/s.zarr") == "/far/s.zarr"


def test_a_clip_without_a_record_is_missing(store):
    write(store)
    assert state_of(store, "b", SOURCE) == ("missing", "no record")
    with pytest.raises(StoreError, match="holds no features .* of clip 'b'; run extract-features"):
        store.read(SPEC.name, "b")


def test_a_record_without_its_commit_is_missing(store):
    write(store)
    (store.path / SPEC.name / "a" / "zarr.json").unlink()
    assert state_of(store, "a", SOURCE)[0] == "missing"
    write(store)
    assert same(store.read(SPEC.name, "a"), make_track())


def flips(n: int):
    return [pytest.param(seed, id=f"flip{seed}") for seed in range(n)]


@pytest.mark.parametrize("seed", flips(40))
def test_a_flipped_bit_in_a_record_is_found(store, seed):
    write(store)
    rng = np.random.default_rng(seed)
    files = sorted(p for p in (store.path / SPEC.name / "a").rglob("*") if p.is_file())
    path = files[seed % len(files)]
    data = bytearray(path.read_bytes())
    at = rng.integers(len(data))
    data[at] ^= 1 << rng.integers(8)
    path.write_bytes(bytes(data))
    with pytest.raises(StoreError):
        store.read(SPEC.name, "a")


def test_each_missing_file_of_a_record_is_found(store):
    write(store)
    names = list(store.commit(SPEC.name, "a").files)
    assert len(names) == 6
    for name in names:
        path = store.path / SPEC.name / "a" / name
        content = path.read_bytes()
        path.unlink()
        assert state_of(store, "a", SOURCE) == (
            "corrupt",
            f"{name} is missing",
        )
        with pytest.raises(StoreError, match="is missing"):
            store.read(SPEC.name, "a")
        path.write_bytes(content)
    assert same(store.read(SPEC.name, "a"), make_track())


@pytest.mark.parametrize("array", ["values", "time_s", "valid"])
def test_changed_metadata_of_an_array_is_found_even_if_it_means_the_same(store, array):
    write(store)
    metadata = store.folder(SPEC.name, "a") / array / "zarr.json"
    metadata.write_text(json.dumps(json.loads(metadata.read_text()), indent=1))
    with pytest.raises(StoreError, match=f"{array}/zarr.json was changed"):
        store.read(SPEC.name, "a")


KILLED = """
import sys
sys.path.insert(0, {root!r})
from tests.helpers.small_stores import SPEC, SOURCE, make_track
from features.store.feature_store import FeatureStore
store = FeatureStore.open({path!r})
for k in range(10_000):
    store.write(SPEC, f"c{{k % 7}}", make_track(400, 64, seed=k), source=SOURCE, provenance={{}})
    print(k, flush=True)
"""


@pytest.mark.parametrize("delay_s", [0.0, 0.004, 0.011, 0.023, 0.05])
def test_a_writer_killed_at_any_moment_leaves_only_whole_records(store, tmp_path, delay_s):
    code = KILLED.format(root=str(Path(__file__).parents[3]), path=str(store.path))
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.stdout is not None
    for _ in range(9):  # some records are there, and are being replaced
        child.stdout.readline()
    time.sleep(delay_s)
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    seen = 0
    for clip in (f"c{k}" for k in range(7)):
        state, _ = state_of(store, clip, SOURCE)
        assert state in ("complete", "missing")
        if state == "complete":
            seen += 1
            assert store.read(SPEC.name, clip).values.shape == (400, 64)
    assert seen >= 6  # at most the one being replaced
    write(store, "c0")  # its lock is free again
    assert same(store.read(SPEC.name, "c0"), make_track())


class Ended(BaseException):
    pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_a_write_waits_until_the_record_is_complete(store, monkeypatch, number):
    def end(*_):
        raise Ended

    def staged(*arguments):
        signal.raise_signal(number)
        return write_staged(*arguments)

    before = signal.signal(number, end)
    monkeypatch.setattr("features.store.feature_store.write_staged", staged)
    try:
        with pytest.raises(Ended):
            write(store)
        assert signal.getsignal(number) is end
    finally:
        signal.signal(number, before)
    assert same(store.read(SPEC.name, "a"), make_track())
    assert not list((store.work / "staging").iterdir())


def test_a_writer_that_waits_for_a_lock_can_be_interrupted(store):
    def end(*_):
        raise Ended

    lock = store.claim(SPEC.name, "a")
    before = signal.signal(signal.SIGINT, end)

    def write_until_interrupted():  # whenever the timer fires, the write still waits
        main_thread = threading.get_ident()
        threading.Timer(0.1, signal.pthread_kill, (main_thread, signal.SIGINT)).start()
        write(store)

    try:
        with pytest.raises(Ended):
            write_until_interrupted()
    finally:
        signal.signal(signal.SIGINT, before)
    lock.release()
    write(store)


def test_one_writer_at_a_time_holds_the_lock_of_a_clip(store):
    lock = store.claim(SPEC.name, "a")
    assert store.claim(SPEC.name, "a") is None
    other = store.claim(SPEC.name, "b")
    waiting = threading.Thread(target=write, args=(store,))
    waiting.start()
    store.write(
        SPEC, "a", make_track(seed=1), source=SOURCE, provenance={}, lock=lock
    )  # it does not wait for itself
    assert same(store.read(SPEC.name, "a"), make_track(seed=1))
    lock.release()
    waiting.join()
    assert same(store.read(SPEC.name, "a"), make_track())
    other.release()
    assert not list((store.work / "locks").iterdir())


def test_removed_lock_files_let_one_holder_in_at_a_time(tmp_path):
    path = tmp_path / "lock"
    for _ in range(50):
        n_inside, most, threads = 0, 0, []

        def hold():
            nonlocal n_inside, most
            with file_lock(path):
                n_inside += 1
                most = max(most, n_inside)
                time.sleep(0.0002)
                n_inside -= 1

        for _ in range(6):
            threads.append(threading.Thread(target=hold))
            threads[-1].start()
        for thread in threads:
            thread.join()
        assert most == 1
    assert not path.exists()


def test_a_record_can_be_written_from_another_thread(store):
    thread = threading.Thread(target=write, args=(store,))
    thread.start()
    thread.join()
    assert same(store.read(SPEC.name, "a"), make_track())


def test_files_are_synced_before_the_rename_that_publishes_them(store, monkeypatch):
    calls = []
    fsync, rename = os.fsync, os.rename
    monkeypatch.setattr(
        os, "fsync", lambda f: (calls.append(("sync", os.readlink(f"/proc/self/fd/{f}"))), fsync(f))
    )
    monkeypatch.setattr(os, "rename", lambda a, b: (calls.append(("rename", str(b))), rename(a, b)))
    write(store)
    shown = calls.index(("rename", str(store.path / SPEC.name / "a")))
    synced = [name for what, name in calls[:shown] if what == "sync"]
    assert sum("/staging/" in name and name.endswith("zarr.json") for name in synced) == 4
    assert ("sync", str(store.path / SPEC.name)) in calls[shown:]


def test_a_spec_that_was_changed_or_renamed_is_found(store):
    write(store)
    (store.path / SPEC.name).rename(store.path / "clip-000000000000")
    with pytest.raises(StoreError, match="renamed or changed"):
        store.feature_sets()
    metadata = store.path / "clip-000000000000" / "zarr.json"
    content = json.loads(metadata.read_text())
    content["attributes"]["kind"] = 7
    metadata.write_text(json.dumps(content))
    with pytest.raises(LaterVersion, match="holds no feature spec"):
        store.feature_sets()


def test_a_store_whose_creation_was_killed_can_be_created_again(tmp_path):
    (tmp_path / "s.zarr").mkdir()
    (tmp_path / "s.zarr.work").mkdir()
    (tmp_path / "s.zarr.work" / ".zarr.json.0.part").write_text("{")
    write(FeatureStore.open(tmp_path / "s.zarr", create=True))
    assert sorted(path.name for path in (tmp_path / "s.zarr").iterdir()) == [SPEC.name, "zarr.json"]


def test_a_commit_with_an_unknown_field_is_of_another_version(store):
    write(store)
    file = store.folder(SPEC.name, "a") / "zarr.json"
    attributes = json.loads(file.read_bytes())["attributes"] | {"yet_more": 1}
    del attributes["digest"]
    digest = sha256(canonical(attributes)).hexdigest()
    file.write_bytes(encode_group({**attributes, "digest": digest}))
    with pytest.raises(LaterVersion, match=r"with other fields \(yet_more\)"):
        store.commit(SPEC.name, "a")


def test_a_record_with_more_than_the_keys_of_a_group_is_refused(store):
    """Its bytes begin and end as a commit's, and the digest holds for what lies between."""
    write(store)
    file = store.folder(SPEC.name, "a") / "zarr.json"
    attributes = json.loads(file.read_bytes())["attributes"]
    del attributes["digest"]
    rest = canonical(attributes)[1:-1] + b'},"other":{"a":1'
    digest = sha256(b"{" + rest + b"}").hexdigest().encode()
    tail = b'},"node_type":"group","zarr_format":3}'
    file.write_bytes(b'{"attributes":{"digest":"' + digest + b'",' + rest + tail)
    with pytest.raises(StoreError, match="is not what was committed"):
        store.commit(SPEC.name, "a")


def test_metadata_that_is_no_object_is_corrupt(store):
    write(store)
    for attributes in ("null", '"x"', "7", "[]"):
        (store.path / SPEC.name / "a" / "zarr.json").write_text(f'{{"attributes": {attributes}}}')
        assert state_of(store, "a", SOURCE)[0] == "corrupt"


def test_a_path_that_is_no_store_is_refused(tmp_path):
    with pytest.raises(InputError, match="only folders of this machine and s3://BUCKET/PREFIX are"):
        FeatureStore.open("gs://bucket/x", create=True)
    with pytest.raises(InputError, match="there is no feature store at .*extract-features"):
        FeatureStore.open(tmp_path / "none")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="exists and is no feature store"):
        FeatureStore.open(tmp_path / "full", create=True)
    zarr.open_group(tmp_path / "other", mode="w")
    with pytest.raises(InputError, match="is a zarr group but no feature store"):
        FeatureStore.open(tmp_path / "other")
    zarr.open_group(
        tmp_path / "later", mode="w", attributes={"format": "vaflow-features", "version": 2}
    )
    with pytest.raises(InputError, match="version 2, this vaflow reads version 1"):
        FeatureStore.open(tmp_path / "later")
    (tmp_path / "later" / "zarr.json").write_text("{")
    with pytest.raises(StoreError, match="cannot be read"):
        FeatureStore.open(tmp_path / "later")
