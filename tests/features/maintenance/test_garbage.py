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


def kinds(store, **named) -> dict[str, str]:
    return {
        path.path.relative_to(store.path.parent).as_posix(): path.kind
        for path in find_garbage(store, **named)
    }


def test_a_store_in_order_has_none(store):
    assert kinds(store) == {}


def test_what_dead_processes_left_is_shown_and_only_then_removed(store):
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
    assert all(item.path.exists() for item in found)  # to look removes nothing
    assert remove_garbage(store, found) == found
    assert kinds(store) == {}
    assert [p for p in store.work.rglob("*") if p.is_file()] == []
    assert verify(store.path).problems == ()
    assert same(store.read(SPEC.name, "a"), make_track())


def test_what_is_locked_or_fresh_stays(store):
    put(store, f"staging/{SPEC.name}.a.0123/zarr.json")
    put(store, ".zarr.json.0123.part")
    found = find_garbage(store)
    held = store.claim(SPEC.name, "a")
    try:
        assert kinds(store) == {}
        assert (
            remove_garbage(store, found) == []
        )  # it was free when it was shown, and is not any more
    finally:
        held.release()
    assert set(kinds(store).values()) == {"staging"}


def test_clips_of_no_manifest_and_named_sets_go_when_asked(store):
    put(store, f"quarantine/{SPEC.name}/c.json")
    assert kinds(store, clips=["a"]) == {
        f"s.zarr/{SPEC.name}/b": "record",
        f"s.zarr.work/quarantine/{SPEC.name}/c.json": "quarantine",
    }
    held = store.claim(SPEC.name, "b")
    assert f"s.zarr/{SPEC.name}/b" not in kinds(store, clips=["a"])
    assert kinds(store, sets=[SPEC.name]) == {
        f"s.zarr.work/quarantine/{SPEC.name}/c.json": "quarantine"
    }
    held.release()
    remove_garbage(store, find_garbage(store, clips=["a"]))
    assert sorted(p.name for p in (store.path / SPEC.name).iterdir()) == ["a", "zarr.json"]
    remove_garbage(store, find_garbage(store, sets=[SPEC.name]))
    assert FeatureStore.open(store.path).feature_sets() == {}
    with pytest.raises(InputError, match="has no feature set 'x-y'; it has none"):
        find_garbage(store, sets=["x-y"])


def test_banks_that_nobody_has_opened_for_long_go(store):
    old = time.time() - BANK_LIVES_S - 60
    for name in ("fresh", "old", "old-held", "opened"):
        put(store, f"banks/{name}/bank.json")
        put(store, f"banks/{name}/visual.npy")
        for path in (*(store.work / f"banks/{name}").iterdir(), store.work / f"banks/{name}"):
            if name != "fresh" and (name, path.name) != ("opened", "bank.json"):
                os.utime(path, (old, old))
    with file_lock(store.work / "locks" / "bank.old-held"):
        assert kinds(store) == {"s.zarr.work/banks/old": "bank"}
        remove_garbage(store, find_garbage(store))
    left = sorted(path.name for path in (store.work / "banks").iterdir())
    assert left == ["fresh", "old-held", "opened"]


def test_links_are_not_followed(store, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "letter.txt").write_text("dear")
    (store.path / SPEC.name / "linked").symlink_to(mine)
    (store.work / "staging").mkdir(exist_ok=True)
    (store.work / "staging" / f"{SPEC.name}.a.0123").symlink_to(mine)
    remove_garbage(store, find_garbage(store, clips=["a"]))
    assert (mine / "letter.txt").read_text() == "dear"
    assert (store.path / SPEC.name / "linked").is_symlink()  # not ours: `verify` tells of it
    assert not (store.work / "staging" / f"{SPEC.name}.a.0123").is_symlink()
