"""Packed rows on disk: written once, opened as memory maps, and packed again if damaged."""

import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from features.canonical_json import canonical, canonical_sha256
from features.clip import Track
from features.errors import InputError, StoreError
from features.manifest.manifest import read_manifest
from features.store.feature_store import FeatureStore
from models.data import packed_cache, packed_file
from models.data.feature_sets import open_sets
from models.data.packed import PackedFeatures
from models.data.packed_cache import load_packed
from models.data.packed_file import HEADER, map_npy
from models.data.splits import read_all_labels
from tests.helpers.synthetic import AST_SPEC, WIDTH_AUDIO, Planted, plant
from tests.helpers.two_streams import arrays_of

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parents[3] / "tests"


@pytest.fixture
def planted(tmp_path) -> Planted:
    return plant(tmp_path, ("train", "val"))


def load(planted: Planted, store: str | None = None, **changes) -> PackedFeatures:
    manifest = read_manifest(planted.manifest)
    labels = read_all_labels(manifest, manifest.clips, required=True)
    return load_packed(open_sets(store or planted.store), labels | changes)


def folders(store: str) -> list[Path]:
    return sorted(Path(store + ".work").glob("banks/*"))


def same(one: PackedFeatures, other: PackedFeatures) -> bool:
    mine, theirs = arrays_of(one), arrays_of(other)
    return one.clip_ids == other.clip_ids and all(
        np.array_equal(mine[name], theirs[name]) for name in mine.keys() | theirs.keys()
    )


@pytest.fixture
def unread(monkeypatch):
    """A function after whose call the store may list its records, but not read them."""

    def forbid() -> None:
        def read(*_: object) -> Track:
            raise AssertionError("the store was read")

        monkeypatch.setattr(FeatureStore, "read", read)

    return forbid


def test_clips_are_packed_once_and_then_opened_without_the_store(planted, unread):
    first = load(planted)
    unread()
    assert same(load(planted), first)
    assert len(folders(planted.store)) == 1
    assert not list(Path(planted.store + ".work").glob("staging/*"))
    plain = np.load(folders(planted.store)[0] / "visual.npy")  # as anyone may
    np.testing.assert_array_equal(plain, first["visual"].values.numpy())


def test_what_is_written_to_packed_rows_stays_in_this_process(planted):
    packed = load(planted)
    whole = packed["visual"].values.clone()
    packed["visual"].values.zero_()  # a map that is read-only would end the process here
    assert torch.equal(load(planted)["visual"].values, whole)


def test_every_file_is_synced_before_the_folder_gets_its_name(planted, monkeypatch):
    synced, sync = [], packed_file.sync_tree

    def noted(folder: Path) -> None:
        synced.append({path.name for path in folder.iterdir()})
        assert not folders(planted.store)
        sync(folder)

    monkeypatch.setattr(packed_file, "sync_tree", noted)
    load(planted)
    assert synced == [{path.name for path in folders(planted.store)[0].iterdir()}]
    assert len(synced[0]) == 8


def test_opening_packed_rows_marks_them_as_used(planted):
    load(planted)
    header = folders(planted.store)[0] / HEADER
    os.utime(header, (0, 0))
    load(planted)
    assert time.time() - header.stat().st_mtime < 60  # `vaflow gc` goes by it


def test_a_map_need_not_fit_into_memory(tmp_path):
    n_rows = 2**40  # a terabyte of rows, in a file without any
    with (tmp_path / "va_valid.npy").open("wb") as file:
        header = {"descr": "|b1", "fortran_order": False, "shape": (n_rows,)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + n_rows)
    assert not map_npy(tmp_path / "va_valid.npy")[-1]


def test_other_records_or_labels_are_packed_again(planted):
    first = load(planted)
    store = FeatureStore.open(planted.store)
    manifest = read_manifest(planted.manifest)
    labels = read_all_labels(manifest, manifest.clips, required=True)
    relabelled = replace(labels["train-0"], va=labels["train-0"].va / 2)
    assert torch.equal(load(planted, **{"train-0": relabelled}).va[:9], first.va[:9] / 2)
    assert len(folders(planted.store)) == 2
    track = store.read(AST_SPEC.name, "train-0")
    louder = Track(track.values * 2, track.time_s, track.valid)
    store.write(AST_SPEC, "train-0", louder, source={"video": "0"}, provenance={})
    assert torch.equal(load(planted)["audio"].values[9], first["audio"].values[9] * 2)
    assert len(folders(planted.store)) == 3


@pytest.mark.parametrize("clip_ids", [["val-1"], ["val-1", "train-0"]], ids="-".join)
def test_fewer_clips_or_another_order_are_read_from_the_same_file(planted, unread, clip_ids):
    whole = load(planted)
    manifest = read_manifest(planted.manifest)
    labels = read_all_labels(manifest, manifest.clips, required=True)
    unread()
    found = load_packed(
        open_sets(planted.store), {clip_id: labels[clip_id] for clip_id in clip_ids}
    )
    assert found.clip_ids == tuple(clip_ids)
    spans, expected = dict(found.spans()), dict(whole.spans())
    for clip_id in clip_ids:
        rows = expected[clip_id]
        assert torch.equal(found.embeddings("visual", spans[clip_id]), whole["visual"].values[rows])
        assert torch.equal(found.va[spans[clip_id]], whole.va[rows])
    assert len(folders(planted.store)) == 1


def test_a_smaller_tolerance_refuses_packed_clips_and_packs_nothing(planted):
    manifest = read_manifest(planted.manifest)  # val-1 has a row more than frames
    labels, sets = (
        read_all_labels(manifest, manifest.clips, required=True),
        open_sets(planted.store),
    )
    load_packed(sets, labels, 1)
    load_packed(sets, labels, 4)
    message = "clip 'val-1': 131 label rows but 130 .* at most 0.*max_length_mismatch=N"
    with pytest.raises(InputError, match=message):
        load_packed(sets, labels, 0)
    assert len(folders(planted.store)) == 1


def test_a_store_that_moved_takes_its_packed_rows_along(planted, tmp_path, unread):
    first = load(planted)
    moved = tmp_path / "elsewhere" / "f.zarr"
    moved.parent.mkdir()
    os.rename(planted.store, moved)
    os.rename(planted.store + ".work", f"{moved}.work")
    unread()
    assert same(load(planted, str(moved)), first)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def write_to(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-8, os.SEEK_END)
        file.write(b"12345678")
    when = path.stat().st_mtime_ns + 1  # a file system's clock may be coarse
    os.utime(path, ns=(when, when))


def say_otherwise(path: Path) -> None:
    said = json.loads(path.read_bytes())
    path.write_text(json.dumps(said | {"n_rows": said["n_rows"][::-1]}))


def test_a_copy_is_known_by_its_checksums_and_read_once(
    planted, tmp_path, unread, caplog, monkeypatch
):
    whole = {name: array.copy() for name, array in arrays_of(load(planted)).items()}
    (folder,) = folders(planted.store)
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copy)  # with other times
    shutil.rmtree(folder)
    (tmp_path / "copy").rename(folder)
    unread()
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            found = arrays_of(load(planted))
            for name, wanted in whole.items():
                np.testing.assert_array_equal(found[name], wanted)
            monkeypatch.setattr(packed_file, "zlib", None)  # the second time, none is computed
    assert caplog.text.count("were copied, and their checksums are right") == 1
    assert "damaged" not in caplog.text


def without_checksums(path: Path) -> None:
    """Make the header that of an earlier version, and the times those of a copy."""
    said = json.loads(path.read_bytes())
    del said["digest"], said["crc32"]
    path.write_bytes(canonical(said | {"digest": canonical_sha256(said)}))
    for file in path.parent.glob("*.npy"):
        os.utime(file)


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        (HEADER, without_checksums),
        ("visual.npy", cut),
        ("va.npy", cut),
        ("audio.npy", write_to),
        ("time_s.npy", Path.unlink),
        (HEADER, cut),
        (HEADER, say_otherwise),
        (HEADER, lambda path: path.write_bytes(b"[]")),
        (HEADER, lambda path: path.write_bytes(b"\xff")),
        (HEADER, Path.unlink),
    ],
)
def test_a_damaged_folder_is_packed_again(planted, name, spoil, caplog, unread):
    first = load(planted)
    whole = {name: array.copy() for name, array in arrays_of(first).items()}
    spoil(folders(planted.store)[0] / name)
    again = load(planted)
    found = arrays_of(again)
    for name, wanted in whole.items():
        np.testing.assert_array_equal(found[name], wanted)
    assert "are damaged, or a copy" in caplog.text
    assert not list(Path(planted.store + ".work").glob("staging/*"))
    unread()
    load(planted)


def test_a_folder_with_other_clips_than_its_name_says_is_not_taken_for_them(planted):
    load(planted)
    manifest = read_manifest(planted.manifest)
    labels = read_all_labels(manifest, manifest.clips, required=True)
    relabelled = labels | {"train-0": replace(labels["train-0"], va=labels["train-0"].va / 2)}
    sets = open_sets(planted.store)
    wanted = [load_packed(sets, each).va.clone() for each in (labels, relabelled)]
    one, two = folders(planted.store)
    one.rename(one.with_suffix(".was"))
    two.rename(one)
    one.with_suffix(".was").rename(two)
    for each, va in zip((labels, relabelled), wanted, strict=True):
        assert torch.equal(load_packed(sets, each).va, va)


def test_two_that_pack_at_once_pack_once(planted, monkeypatch):
    packed, both = [], threading.Barrier(2, timeout=300)

    def pack(*given: object) -> None:
        packed.append(given)
        packed_file.pack(*given)

    def locked(path: Path):
        both.wait()  # both have looked, and found none
        return real(path)

    real = packed_cache.file_lock
    monkeypatch.setattr(packed_cache, "pack", pack)
    monkeypatch.setattr(packed_cache, "file_lock", locked)
    found: list[PackedFeatures] = []
    threads = [threading.Thread(target=lambda: found.append(load(planted))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(packed) == 1
    assert same(*found)


def test_features_that_change_while_they_are_packed_leave_no_folder(planted, monkeypatch):
    read = FeatureStore.read

    def read_and_replace(store: FeatureStore, set_name: str, clip_id: str) -> Track:
        track = read(store, set_name, clip_id)
        if (set_name, clip_id) == (AST_SPEC.name, "val-1"):
            louder = Track(track.values * 2, track.time_s, track.valid)
            store.write(AST_SPEC, clip_id, louder, source={}, provenance={})
        return track

    monkeypatch.setattr(FeatureStore, "read", read_and_replace)
    with pytest.raises(StoreError, match="were replaced while they were read; wait for"):
        load(planted)
    assert folders(planted.store) == []
    assert not list(Path(planted.store + ".work").glob("staging/*"))


def test_clips_of_another_width_are_refused(planted):
    store = FeatureStore.open(planted.store)
    track = store.read(AST_SPEC.name, "val-1")
    wider = Track(np.pad(track.values, ((0, 0), (0, 1))), track.time_s, track.valid)
    store.write(AST_SPEC, "val-1", wider, source={}, provenance={})
    message = rf"clip 'val-1' has embeddings of 16 and {WIDTH_AUDIO + 1} numbers, .* verify"
    with pytest.raises(StoreError, match=message):
        load(planted)


@pytest.mark.parametrize("stride", [13, pytest.param(1, marks=pytest.mark.torture)])
def test_whatever_happens_while_it_is_packed_the_rows_are_right(tmp_path, stride):
    planted = plant(tmp_path, ("train", "val"))
    script = TESTS / "helpers" / "crash_packing.py"
    done = subprocess.run(
        [sys.executable, str(script), str(planted.manifest), planted.store, str(stride)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(TESTS.parent), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    ends = json.loads(done.stdout)
    n = sum(ends["killed"].values())
    assert ends["killed"].get("0", 0) <= n / 3  # a kill comes before the last step of most
    assert ends["full"] == ends["small"] == {"0": n}  # it is packed in memory
    assert set(ends["failing"]) <= {"7", "0"}  # an error that names a path
    assert "are packed in memory, each time again" in done.stderr


def test_a_disk_that_cannot_be_written_to_is_logged(planted, caplog, monkeypatch):
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    whole = load(planted)
    shutil.rmtree(planted.store + ".work")
    monkeypatch.setattr(packed_cache, "file_lock", refuse)
    with caplog.at_level(logging.WARNING):
        assert same(load(planted), whole)
    assert "Permission denied" in caplog.text
    assert "are packed in memory, each time again" in caplog.text
    assert folders(planted.store) == []
