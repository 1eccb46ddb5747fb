import hashlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from features.clip import Source
from features.errors import MediaError
from features.freshness import media_digests as sources
from features.freshness.digest_cache import (
    SETTLE_NS,
    DigestCache,
    file_stat,
    recalling,
    remembering,
)
from features.freshness.media_digests import SourceDigests

OLD_S = 1_000_000_000.0  # a time of change, long ago
LATER_NS = 3_600 * 10**9


def source(path: Path, **parts) -> Source:
    return Source("a", **{"video": path, "frames": None, "audio": None, "fps": None, **parts})


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def read(monkeypatch) -> list[Path]:
    """The files that were read."""
    paths = []
    real = sources.sha256_of
    monkeypatch.setattr(sources, "sha256_of", lambda path: (paths.append(path), real(path))[1])
    return paths


@pytest.fixture
def clock(monkeypatch) -> list[int]:
    """How far our clock is from that of the file system, in nanoseconds: an hour ahead."""
    ahead_ns = [LATER_NS]
    now = time.time_ns
    monkeypatch.setattr("features.freshness.digest_cache.time.time_ns", lambda: now() + ahead_ns[0])
    return ahead_ns


@pytest.fixture
def video(tmp_path) -> Path:
    (tmp_path / "v.mp4").write_bytes(b"first")
    os.utime(tmp_path / "v.mp4", (OLD_S, OLD_S))
    return tmp_path / "v.mp4"


@pytest.fixture
def work(tmp_path) -> Path:
    (tmp_path / "s.zarr.work").mkdir()
    return tmp_path / "s.zarr.work"


def digest(work: Path, path: Path, how=remembering) -> str:
    """As another process finds it."""
    with how(work) as memo:
        return SourceDigests(memo).of(source(path), "visual")["video"]


def test_a_file_is_read_once_and_not_again_by_later_processes(video, work, read, clock):
    assert [digest(work, video) for _ in range(3)] == [sha256(b"first")] * 3
    assert digest(work, video, recalling) == sha256(b"first")
    assert read == [video]


def test_a_changed_byte_is_seen_though_size_and_mtime_are_put_back(video, work, read, clock):
    digest(work, video)
    before = video.stat()
    video.write_bytes(b"First")
    os.utime(video, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert video.stat().st_mtime_ns == before.st_mtime_ns
    assert digest(work, video) == sha256(b"First")  # by its ctime


@pytest.mark.parametrize("field", ["st_size", "st_mtime_ns", "st_ctime_ns", "st_ino"])
def test_each_part_of_the_looks_alone_has_the_file_read_again(
    video, work, read, clock, field, monkeypatch
):
    digest(work, video)
    stat = Path.stat

    class Changed:
        def __init__(self, found):
            self._found = found

        def __getattr__(self, name):
            return getattr(self._found, name) + (name == field)

    monkeypatch.setattr(
        Path,
        "stat",
        lambda self, **how: Changed(stat(self, **how)) if self == video else stat(self, **how),
    )
    digest(work, video)
    assert read == [video] * 2


def test_a_file_that_changed_just_now_is_not_trusted(video, work, read, clock):
    for ahead_ns, is_trusted in ((0, False), (SETTLE_NS // 2, False), (LATER_NS, True)):
        clock[0] = ahead_ns
        read.clear()
        digest(work, video), digest(work, video)
        assert len(read) == (1 if is_trusted else 2), ahead_ns
    os.utime(video, (OLD_S, OLD_S))  # its mtime is old, its ctime is not
    clock[0] = 0
    assert digest(work, video) == sha256(b"first")
    assert len(read) == 2


@pytest.mark.parametrize("years", [-10, 10])
def test_a_clock_that_goes_wrong_by_years_costs_reading_and_changes_nothing(
    video, work, read, clock, years
):
    digest(work, video)
    clock[0] = years * 365 * 86_400 * 10**9
    assert digest(work, video) == sha256(b"first")
    assert len(read) == (2 if years < 0 else 1)  # seen, or changed, in the future
    clock[0] = LATER_NS
    assert digest(work, video) == sha256(b"first")
    video.write_bytes(b"other")
    assert digest(work, video) == sha256(b"other")


def test_names_count_where_a_file_system_does_not_note_a_renaming(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "stat", lambda self: os.stat(__file__))
    names = [[tmp_path / name for name in order] for order in ("ab", "ba", "ac")]
    assert len({file_stat(paths).looks for paths in names}) == 3


def test_crops_are_one_thing(tmp_path, work, read, clock):
    folder = tmp_path / "crops"
    folder.mkdir()
    for k in (1, 2, 30):
        (folder / f"{k:05d}.jpg").write_bytes(bytes([k]))

    def crops() -> str:
        with remembering(work) as memo:
            return SourceDigests(memo).of(source(None, frames=folder), "visual")["frames"]

    first = crops()
    assert crops() == first
    assert len(read) == 3
    plain = "".join(f"{k}:{sha256(bytes([k]))}\n" for k in (1, 2, 30))
    assert first == sha256(plain.encode())
    shutil.copytree(folder, tmp_path / "moved")
    with remembering(work) as memo:
        moved = SourceDigests(memo).of(source(None, frames=tmp_path / "moved"), "visual")
    assert moved["frames"] == first
    (folder / "00002.jpg").write_bytes(b"\x09")
    changed = crops()
    (folder / "00030.jpg").rename(folder / "00031.jpg")
    renamed = crops()
    (folder / "00031.jpg").unlink()
    assert len({first, changed, renamed, crops()}) == 4


def spoil(path: Path, how: str, draw: random.Random) -> None:
    data = bytearray(path.read_bytes())
    if how == "flipped":
        for _ in range(draw.choice([1, 3, 40])):
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        path.write_bytes(data)
    elif how == "cut":
        path.write_bytes(data[: draw.randrange(len(data))])
    elif how == "text":
        path.write_text("no database")
    elif how == "other table":
        path.unlink()
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE digests (path BLOB)")
        database.close()
    elif how == "folder":
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize("how", ["flipped", "cut", "text", "other table", "folder"])
def test_a_damaged_memo_never_gives_a_wrong_digest_nor_an_error(video, work, clock, how):
    others = [video.with_name(f"{k}.mp4") for k in range(20)]
    for k, path in enumerate(others):
        path.write_bytes(bytes([k]))
    digest(work, video)
    draw = random.Random(0)
    for _ in range(30 if how in ("flipped", "cut") else 1):
        for path in others:
            digest(work, path)
        spoil(work / "digests.sqlite", how, draw)
        for reader in (recalling, remembering):
            for k, path in enumerate(others):
                assert digest(work, path, reader) == sha256(bytes([k]))


def test_a_damaged_memo_is_made_anew(video, work, read, clock):
    (work / "digests.sqlite").write_text("no database " * 100)
    for _ in range(3):
        digest(work, video)
    assert read == [video]


def test_an_entry_that_was_changed_in_a_sound_database_is_not_believed(video, work, clock):
    digest(work, video)
    with sqlite3.connect(work / "digests.sqlite") as database:
        database.execute("UPDATE digests SET sha256 = replace(sha256, '1', '2')")
    database.close()
    assert digest(work, video) == sha256(b"first")


def test_where_nothing_can_be_written_it_works_without(video, work, tmp_path, read, clock):
    assert digest(tmp_path / "none.work", video) == sha256(b"first")
    assert not (tmp_path / "none.work").exists()
    with remembering(tmp_path / "none.work") as memo:  # within a process it is read once
        digests = SourceDigests(memo)
        digests.of(source(video), "visual"), digests.of(source(video), "audio")
    assert len(read) == 2
    digest(work, video)
    (work / "digests.sqlite").chmod(0o400)
    for how in (recalling, remembering):
        assert digest(work, video, how) == sha256(b"first")
    assert len(read) == 3


def test_one_that_another_holds_is_neither_waited_for_nor_thrown_away(
    video, work, read, clock, monkeypatch
):
    monkeypatch.setattr("features.freshness.digest_cache.WAIT_S", 0.05)
    digest(work, video)
    inode = (work / "digests.sqlite").stat().st_ino
    other = sqlite3.connect(work / "digests.sqlite", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert digest(work, video) == sha256(b"first")
    other.execute("COMMIT")
    other.close()
    read.clear()
    assert digest(work, video) == sha256(b"first")
    assert not read
    assert (work / "digests.sqlite").stat().st_ino == inode


def test_what_the_database_has_is_not_held_in_memory_too(video, work, read, clock):
    with remembering(work) as memo:
        digests = SourceDigests(memo)
        digests.of(source(video), "visual")
        assert len(memo._of_path) == 1
        memo.save()
        assert not memo._of_path
        digests.of(source(video), "visual")
    assert read == [video]


def test_what_the_database_does_not_take_is_held_in_memory(video, work, read, clock, monkeypatch):
    monkeypatch.setattr("features.freshness.digest_cache.WAIT_S", 0.05)
    with remembering(work) as memo:
        other = sqlite3.connect(work / "digests.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        digests = SourceDigests(memo)
        digests.of(source(video), "visual")
        memo.save()
        digests.of(source(video), "visual")
        other.close()
    assert read == [video]


def test_what_is_not_there_is_a_media_error(tmp_path):
    with pytest.raises(MediaError, match="none.mp4 cannot be read") as raised:
        SourceDigests(DigestCache()).of(source(tmp_path / "none.mp4"), "visual")
    assert raised.value.code == "missing"


def test_what_may_have_no_end_is_not_read(tmp_path, read):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "zeros.mp4").symlink_to("/dev/zero")
    for name in ("pipe.mp4", "zeros.mp4"):
        with pytest.raises(MediaError, match=f"{name} is a pipe or a device") as caught:
            SourceDigests().of(source(tmp_path / name), "visual")
        assert caught.value.code == "unreadable"
    assert read == []


def test_many_processes_share_it(work):
    code = (
        "import sys; from pathlib import Path;"
        "from features.freshness.digest_cache import Look, remembering\n"
        "look = Look('x', 0, 10**19 // 2)\n"
        "with remembering(Path(sys.argv[1])) as memo:\n"
        "    for k in range(200):\n"
        "        path = Path(str(k))\n"
        "        assert memo.find(path, look) in (None, str(k))\n"
        "        memo.keep(path, look, str(k))\n"
        "        assert memo.find(path, look) == str(k)\n"
    )
    command = [sys.executable, "-c", code, str(work)]
    children = [subprocess.Popen(command) for _ in range(4)]
    assert [child.wait() for child in children] == [0] * 4
    with sqlite3.connect(work / "digests.sqlite") as database:
        assert database.execute("SELECT count(*) FROM digests").fetchone() == (200,)
    database.close()
