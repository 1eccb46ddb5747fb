import os

import pytest

from features.errors import InputError
from features.system.files import check_writable, write_atomic, write_if_changed


def test_a_file_is_synced_before_it_is_renamed_and_its_folder_after(tmp_path, monkeypatch):
    path, steps = tmp_path / "a.json", []
    fsync, replace = os.fsync, os.replace

    def logged_fsync(handle: int) -> None:
        name = os.readlink(f"/proc/self/fd/{handle}")
        steps.append(("sync", "folder" if name == str(tmp_path) else "file", os.path.exists(path)))
        fsync(handle)

    def logged_replace(source: str, target: str) -> None:
        steps.append(("rename", os.fspath(target), False))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", logged_fsync)
    monkeypatch.setattr(os, "replace", logged_replace)
    write_atomic(path, b"new")
    assert steps == [
        ("sync", "file", False),
        ("rename", str(path), False),
        ("sync", "folder", True),
    ]
    assert path.read_bytes() == b"new"


def test_a_file_that_cannot_be_written_leaves_the_old_one_and_names_it(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    path.write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as error:
        write_atomic(path, b"new")
    assert error.value.filename == str(path)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old"]


def test_a_file_with_the_same_bytes_is_not_written_again(tmp_path):
    path = tmp_path / "a.json"
    write_if_changed(path, b"same")
    before = path.stat()
    write_if_changed(path, b"same")
    assert path.stat().st_ino == before.st_ino
    write_if_changed(path, b"other")
    assert path.read_bytes() == b"other"


def test_a_path_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="run = .*: .*file is no folder; give another path"):
        check_writable(tmp_path / "file" / "run", "run")
