import shutil
from pathlib import Path

import numpy as np
import pytest

from features.errors import InputError, LaterVersion
from features.maintenance import verify as verification
from features.maintenance.repair import repair
from features.maintenance.verify import render_verification, verify
from features.store.feature_store import FeatureStore
from tests.helpers.small_stores import (
    SOURCE,
    SPEC,
    TRACKS,
    files,
    make_track,
    read_silently_wrong,
    state_of,
    write_tracks,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A store that no test changes for longer than it looks."""
    return write_tracks(tmp_path_factory.mktemp("whole") / "s.zarr")


@pytest.fixture
def root(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "s.zarr"))


def places(root: Path) -> list[str]:
    """What `verify` names; the store may be so damaged that it is refused as a whole."""
    try:
        return [problem.place for problem in verify(root).problems]
    except (LaterVersion, InputError):
        return ["zarr.json"]


def test_a_whole_store_has_no_problem(whole):
    found = verify(whole)
    assert found.problems == ()
    assert found.n_records == len(TRACKS)
    in_records = [path for path in files(whole) if len(path.relative_to(whole).parts) > 2]
    assert found.n_files == len(in_records)
    assert found.n_bytes == sum(path.stat().st_size for path in in_records)
    assert read_silently_wrong(whole) == []  # zeros are read as zeros


def assert_flips_are_found(root: Path, seeds: range) -> None:
    for seed in seeds:
        rng = np.random.default_rng(seed)
        among = files(root)
        path = among[rng.integers(len(among))]
        before = path.read_bytes()
        after = bytearray(before)
        after[rng.integers(len(after))] ^= 1 << rng.integers(8)
        path.write_bytes(bytes(after))
        place = path.relative_to(root).as_posix()
        assert place in places(root), f"seed {seed}: {place}"
        assert read_silently_wrong(root) == [], f"seed {seed}: {place}"
        path.write_bytes(before)


def test_a_flipped_bit_anywhere_is_found(root):
    assert_flips_are_found(root, range(60))


@pytest.mark.torture
def test_a_thousand_flipped_bits_are_found(root):
    assert_flips_are_found(root, range(1000, 2000))


def test_each_file_that_is_missing_or_cut_short_is_found(root):
    for path in files(root):
        before, place = path.read_bytes(), path.relative_to(root).as_posix()
        path.unlink()
        assert place in places(root)
        assert read_silently_wrong(root) == []
        path.write_bytes(before[:-1])
        assert place in places(root)
        assert read_silently_wrong(root) == []
        path.write_bytes(before)
    assert places(root) == []


TOO_MANY = ["values/c/0/1", "values/c/2/0", "valid/c/1", "other/zarr.json", "x", ".DS_Store"]


def test_each_file_too_many_is_found(root):
    for name in [*(f"{SPEC.name}/a/{name}" for name in TOO_MANY), "notes.txt", f"{SPEC.name}/x"]:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\0")
        assert places(root) == [name]
        assert read_silently_wrong(root) == []
        path.unlink()


def test_folders_that_are_no_records_and_links_are_found(root, tmp_path):
    (root / SPEC.name / "half").mkdir()
    (root / SPEC.name / ".hidden").mkdir()
    (root / "lost+found").mkdir()
    (root / SPEC.name / "elsewhere").symlink_to(tmp_path)
    assert sorted(places(root)) == [
        f"{SPEC.name}/.hidden",
        f"{SPEC.name}/elsewhere",
        f"{SPEC.name}/half/zarr.json",
        "lost+found",
    ]


def test_what_is_no_store_is_not_verified(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(InputError, match="no feature store"):
            verify(path)


def test_many_records_are_read_by_processes_with_the_same_findings(root, monkeypatch):
    (root / SPEC.name / "a/valid/c/0").unlink()
    alone = verify(root)
    monkeypatch.setattr(verification, "IN_THIS_PROCESS_AT_MOST", 0)
    monkeypatch.setattr(verification, "BATCH", 3)
    heard = []
    assert verify(root, on_records=lambda *numbers: heard.append(numbers)) == alone
    assert heard == [(3, 4), (4, 4)]
    assert next(render_verification(alone)) == f"  {SPEC.name}/a/valid/c/0: is missing"


def test_a_record_replaced_while_it_is_read_is_no_problem(root, monkeypatch):
    store, real, n_calls = FeatureStore.open(root), verification.files_in, 0

    def replaced(folder):
        nonlocal n_calls
        sizes = real(folder)
        n_calls += 1
        if n_calls == 1:
            store.write(SPEC, "a", make_track(seed=9), source=SOURCE, provenance={"by": "other"})
        return sizes

    monkeypatch.setattr(verification, "files_in", replaced)
    shutil.rmtree(root / SPEC.name / "a" / "values" / "c")  # seen, and mended by the other
    assert places(root) == []


def test_what_is_wrong_is_cleared_for_extraction_and_nothing_else(root):
    record = root / SPEC.name / "a"
    (record / "values/c/0/0").write_bytes(b"junk")
    (record / "extra").write_text("mine")
    (root / SPEC.name / "zeros/valid/c/0").unlink()
    for metadata in (root / "zarr.json", root / SPEC.name / "zarr.json"):
        metadata.write_bytes(metadata.read_bytes() + b" ")
    done = repair(root, verify(root), [SPEC], ["a", "empty"])
    assert [p.place for p in done.left] == [f"{SPEC.name}/zeros/valid/c/0"]  # no clip of ours
    store = FeatureStore.open(root)
    assert store.feature_sets() == {SPEC.name: SPEC}
    assert state_of(store, "a", SOURCE) == (
        "corrupt",
        "values/c/0/0 is missing",
    )
    assert state_of(store, "large", SOURCE)[0] == "complete"
    kept = sorted(p.name for p in (store.work / "removed").rglob("*") if p.is_file())
    assert kept == ["0", "extra"]  # nothing is deleted


def test_a_record_that_somebody_writes_is_not_cleared(root):
    (root / SPEC.name / "a/values/c/0/0").write_bytes(b"junk")
    store = FeatureStore.open(root)
    held = store.claim(SPEC.name, "a")
    done = repair(root, verify(root), [SPEC], ["a"])
    held.release()
    assert [p.place for p in done.left] == [f"{SPEC.name}/a/values/c/0/0"]
    assert (root / SPEC.name / "a/values/c/0/0").exists()
