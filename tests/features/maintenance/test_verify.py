import shutil
from pathlib import Path

import numpy as np
import pytest

from features.errors import InputError, LaterVersion
from features.maintenance import verify as module
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

pytestmark = pytest.mark.slow

TOO_MANY = ["values/c/0/1", "values/c/2/0", "valid/c/1", "other/zarr.json", "x", ".DS_Store"]


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """A store without a problem; a test that changes it restores it."""
    return write_tracks(tmp_path_factory.mktemp("sound") / "s.zarr")


@pytest.fixture
def root(sound, tmp_path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "s.zarr"))


def problem_paths(root: Path) -> list[str]:
    """What `verify` names; it refuses a store whose own metadata is damaged."""
    try:
        return [problem.path for problem in verify(root).problems]
    except (LaterVersion, InputError):
        return ["zarr.json"]


def test_a_sound_store_has_no_problem(sound):
    found = verify(sound)
    in_records = [path for path in files(sound) if len(path.relative_to(sound).parts) > 2]
    assert found.problems == ()
    assert found.n_records == len(TRACKS)
    assert found.n_files == len(in_records)
    assert found.n_bytes == sum(path.stat().st_size for path in in_records)
    assert read_silently_wrong(sound) == []  # zeros are read as zeros


def assert_flipped_bits_are_found(root: Path, seeds: range) -> None:
    for seed in seeds:
        rng = np.random.default_rng(seed)
        paths = files(root)
        path = paths[rng.integers(len(paths))]
        before = path.read_bytes()
        after = bytearray(before)
        after[rng.integers(len(after))] ^= 1 << rng.integers(8)
        path.write_bytes(bytes(after))
        name = path.relative_to(root).as_posix()
        assert name in problem_paths(root), f"seed {seed}: {name}"
        assert read_silently_wrong(root) == [], f"seed {seed}: {name}"
        path.write_bytes(before)


def test_a_flipped_bit_in_any_file_is_found(root):
    assert_flipped_bits_are_found(root, range(60))


@pytest.mark.torture
def test_a_thousand_flipped_bits_are_found(root):
    assert_flipped_bits_are_found(root, range(1000, 2000))


def test_each_missing_or_cut_file_is_found(root):
    for path in files(root):
        before, name = path.read_bytes(), path.relative_to(root).as_posix()
        path.unlink()
        assert name in problem_paths(root)
        assert read_silently_wrong(root) == []
        path.write_bytes(before[:-1])
        assert name in problem_paths(root)
        assert read_silently_wrong(root) == []
        path.write_bytes(before)
    assert problem_paths(root) == []


def test_each_file_too_many_is_found(root):
    for name in [*(f"{SPEC.name}/a/{name}" for name in TOO_MANY), "notes.txt", f"{SPEC.name}/x"]:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\0")
        assert problem_paths(root) == [name]
        assert read_silently_wrong(root) == []
        path.unlink()


def test_links_and_folders_that_are_no_records_are_found(root, tmp_path):
    (root / SPEC.name / "half").mkdir()
    (root / SPEC.name / ".hidden").mkdir()
    (root / "lost+found").mkdir()
    (root / SPEC.name / "elsewhere").symlink_to(tmp_path)
    assert sorted(problem_paths(root)) == [
        f"{SPEC.name}/.hidden",
        f"{SPEC.name}/elsewhere",
        f"{SPEC.name}/half/zarr.json",
        "lost+found",
    ]


def test_a_folder_that_is_no_store_is_an_input_error(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(InputError, match="no feature store"):
            verify(path)


def test_several_processes_find_the_same_problems_as_one(root, monkeypatch):
    (root / SPEC.name / "a/valid/c/0").unlink()
    by_one = verify(root)
    monkeypatch.setattr(module, "IN_THIS_PROCESS_AT_MOST", 0)
    monkeypatch.setattr(module, "BATCH", 3)
    progress = []
    assert verify(root, on_progress=lambda *counts: progress.append(counts)) == by_one
    assert progress == [(3, 4), (4, 4)]


def test_a_problem_is_printed_with_its_path(root):
    (root / SPEC.name / "a/valid/c/0").unlink()
    assert list(render_verification(verify(root))) == [f"  {SPEC.name}/a/valid/c/0: is missing"]


def test_a_record_that_is_replaced_while_it_is_read_is_no_problem(root, monkeypatch):
    store, real, n_calls = FeatureStore.open(root), module.files_in, 0

    def files_in(folder):
        nonlocal n_calls
        sizes = real(folder)
        n_calls += 1
        if n_calls == 1:
            store.write(SPEC, "a", make_track(seed=9), source=SOURCE, provenance={"by": "other"})
        return sizes

    monkeypatch.setattr(module, "files_in", files_in)
    shutil.rmtree(root / SPEC.name / "a" / "values" / "c")  # found, but restored by the writer
    assert problem_paths(root) == []


@pytest.fixture
def damaged(root) -> Path:
    """Two wrong files in record a, one in record zeros, and changed metadata of store and set."""
    record = root / SPEC.name / "a"
    (record / "values/c/0/0").write_bytes(b"junk")
    (record / "extra").write_text("mine")
    (root / SPEC.name / "zeros/valid/c/0").unlink()
    for metadata in (root / "zarr.json", root / SPEC.name / "zarr.json"):
        metadata.write_bytes(metadata.read_bytes() + b" ")
    return root


def test_a_repair_restores_the_metadata_of_store_and_set(damaged):
    repair(damaged, verify(damaged), [SPEC], [])
    assert FeatureStore.open(damaged).feature_sets() == {SPEC.name: SPEC}


def test_a_repair_moves_out_wrong_files_of_the_given_clips_and_deletes_nothing(damaged):
    done = repair(damaged, verify(damaged), [SPEC], ["a", "empty"])
    assert [p.path for p in done.remaining] == [f"{SPEC.name}/zeros/valid/c/0"]
    store = FeatureStore.open(damaged)
    assert state_of(store, "a", SOURCE) == ("corrupt", "values/c/0/0 is missing")
    assert state_of(store, "large", SOURCE)[0] == "complete"
    moved = sorted(p.name for p in (store.work / "removed").rglob("*") if p.is_file())
    assert moved == ["0", "extra"]


def test_a_repair_leaves_the_metadata_of_a_set_without_its_spec(damaged):
    done = repair(damaged, verify(damaged), [], ["a"])
    assert [p.path for p in done.repaired] == ["zarr.json"]
    assert f"{SPEC.name}/zarr.json" in [p.path for p in done.remaining]


def test_a_record_that_another_process_writes_is_not_repaired(root):
    (root / SPEC.name / "a/values/c/0/0").write_bytes(b"junk")
    lock = FeatureStore.open(root).claim(SPEC.name, "a")
    done = repair(root, verify(root), [SPEC], ["a"])
    lock.release()
    assert [p.path for p in done.remaining] == [f"{SPEC.name}/a/values/c/0/0"]
    assert (root / SPEC.name / "a/values/c/0/0").exists()
