import os
import time

import pytest

from features.errors import InputError
from features.maintenance.garbage import BANK_LIVES_S, PART_LIVES_S, find_garbage, remove_garbage
from features.maintenance.verify import verify
from features.store.feature_store import FeatureStore
from features.system.locks import file_lock
from tests.helpers.small_stores import SOURCE, SPEC, make_track, same


@pytest.fixture
def store(tmp_path) -> FeatureStore:
    store = FeatureStore.open(tmp_path / "s.zarr", create=True)
    for clip in ("a", "b"):
        store.write(SPEC, clip, make_track(), source=SOURCE, provenance={})
    return store


def age(path) -> None:
    old = time.time() - PART_LIVES_S - 60
    os.utime(path, (old, old))


def put(store, name, content="x"):
    path = store.work / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def kinds(store, **keys) -> dict[str, str]:
    """The kind of each garbage item, by its path beside the store."""
    return {
        item.path.relative_to(store.path.parent).as_posix(): item.kind
        for item in find_garbage(store, **keys)
    }


def test_a_sound_store_has_no_garbage(store):
    assert kinds(store) == {}


def test_files_of_dead_processes_are_found_and_removed_when_asked(store):
    put(store, f"staging/{SPEC.name}.a.0123/values/zarr.json", "half")
    put(store, f"staging/{SPEC.name}.a.4567.old/zarr.json", "replaced")
    put(store, f"locks/{SPEC.name}.a")
    put(store, "removed/89ab/x")
    for name in (".zarr.json.0123.part", "quarantine/x/.a.json.0123.part"):
        age(put(store, name))
    (store.path / SPEC.name / "half" / "values").mkdir(parents=True)
    found = find_garbage(store)
    assert kinds(store) == {
        f"s.zarr.work/staging/{SPEC.name}.a.0123": "staging",
        f"s.zarr.work/staging/{SPEC.name}.a.4567.old": "staging",
        f"s.zarr.work/locks/{SPEC.name}.a": "lock",
        "s.zarr.work/removed/89ab": "removed",
        "s.zarr.work/.zarr.json.0123.part": "part",
        "s.zarr.work/quarantine/x/.a.json.0123.part": "part",
        f"s.zarr/{SPEC.name}/half": "half record",
    }
    assert found[0].n_bytes == len("half")
    assert all(item.path.exists() for item in found)  # finding removes nothing
    assert remove_garbage(store, found) == found
    assert kinds(store) == {}
    assert [p for p in store.work.rglob("*") if p.is_file()] == []
    assert verify(store.path).problems == ()
    assert same(store.read(SPEC.name, "a"), make_track())


def test_locked_and_new_files_stay(store):
    put(store, f"staging/{SPEC.name}.a.0123/zarr.json")
    put(store, ".zarr.json.0123.part")
    found = find_garbage(store)
    lock = store.claim(SPEC.name, "a")
    assert kinds(store) == {}
    assert remove_garbage(store, found) == []  # it was locked after it was found
    lock.release()
    assert set(kinds(store).values()) == {"staging"}


def test_records_and_quarantine_of_clips_outside_the_manifest_are_garbage(store):
    put(store, f"quarantine/{SPEC.name}/c.json")
    assert kinds(store, clips=["a"]) == {
        f"s.zarr/{SPEC.name}/b": "record",
        f"s.zarr.work/quarantine/{SPEC.name}/c.json": "quarantine",
    }
    lock = store.claim(SPEC.name, "b")
    assert f"s.zarr/{SPEC.name}/b" not in kinds(store, clips=["a"])
    lock.release()
    remove_garbage(store, find_garbage(store, clips=["a"]))
    assert sorted(p.name for p in (store.path / SPEC.name).iterdir()) == ["a", "zarr.json"]


def test_a_named_set_is_garbage_with_its_quarantine_unless_it_is_written(store):
    entry = f"s.zarr.work/quarantine/{SPEC.name}/c.json"
    put(store, f"quarantine/{SPEC.name}/c.json")
    lock = store.claim(SPEC.name, "b")
    assert kinds(store, sets=[SPEC.name]) == {entry: "quarantine"}
    lock.release()
    assert kinds(store, sets=[SPEC.name]) == {entry: "quarantine", f"s.zarr/{SPEC.name}": "set"}
    remove_garbage(store, find_garbage(store, sets=[SPEC.name]))
    assert FeatureStore.open(store.path).feature_sets() == {}


def test_a_set_that_the_store_lacks_is_an_input_error(store):
    remove_garbage(store, find_garbage(store, sets=[SPEC.name]))
    with pytest.raises(InputError, match="has no feature set 'x-y'; it has none"):
        find_garbage(store, sets=["x-y"])


def test_a_bank_that_was_not_opened_for_long_is_garbage_unless_it_is_locked(store):
    old = time.time() - BANK_LIVES_S - 60
    for name in ("new", "old", "old-locked", "opened"):
        put(store, f"banks/{name}/bank.json")
        put(store, f"banks/{name}/visual.npy")
        for path in (*(store.work / f"banks/{name}").iterdir(), store.work / f"banks/{name}"):
            if name != "new" and (name, path.name) != ("opened", "bank.json"):
                os.utime(path, (old, old))
    with file_lock(store.work / "locks" / "bank.old-locked"):
        assert kinds(store) == {"s.zarr.work/banks/old": "bank"}
        remove_garbage(store, find_garbage(store))
    remaining = sorted(path.name for path in (store.work / "banks").iterdir())
    assert remaining == ["new", "old-locked", "opened"]


def test_links_are_not_followed(store, tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "letter.txt").write_text("dear")
    (store.path / SPEC.name / "linked").symlink_to(folder)
    (store.work / "staging").mkdir(exist_ok=True)
    (store.work / "staging" / f"{SPEC.name}.a.0123").symlink_to(folder)
    remove_garbage(store, find_garbage(store, clips=["a"]))
    assert (folder / "letter.txt").read_text() == "dear"
    assert (store.path / SPEC.name / "linked").is_symlink()  # `verify` lists it
    assert not (store.work / "staging" / f"{SPEC.name}.a.0123").is_symlink()
