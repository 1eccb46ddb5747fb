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
from features.freshness import media_digests
from features.freshness.digest_cache import (
    MIN_AGE_NS,
    DigestCache,
    FileStat,
    file_stat,
    open_cache,
)
from features.freshness.media_digests import SourceDigests
from features.store.work_folder import digest_cache_file

OLD_S = 1_000_000_000.0  # a time of change, long ago
LATER_NS = 3_600 * 10**9


def source(path: Path | None, **parts) -> Source:
    return Source("a", **{"video": path, "frames": None, "audio": None, "fps": None, **parts})


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def read(monkeypatch) -> list[Path]:
    """The files that were hashed."""
    paths = []
    real = media_digests.sha256_of
    monkeypatch.setattr(
        media_digests, "sha256_of", lambda path: (paths.append(path), real(path))[1]
    )
    return paths


@pytest.fixture
def clock(monkeypatch) -> list[int]:
    """How far our clock is ahead of that of the file system, in nanoseconds: an hour."""
    ahead_ns = [LATER_NS]
    now = time.time_ns
    monkeypatch.setattr("features.freshness.digest_cache.time.time_ns", lambda: now() + ahead_ns[0])
    return ahead_ns


@pytest.fixture
def short_wait(monkeypatch) -> None:
    """A locked database is not waited for."""
    monkeypatch.setattr("features.freshness.digest_cache.BUSY_TIMEOUT_S", 0.05)


@pytest.fixture
def video(tmp_path) -> Path:
    (tmp_path / "v.mp4").write_bytes(b"first")
    os.utime(tmp_path / "v.mp4", (OLD_S, OLD_S))
    return tmp_path / "v.mp4"


@pytest.fixture
def work(tmp_path) -> Path:
    (tmp_path / "s.zarr.work").mkdir()
    return tmp_path / "s.zarr.work"


def digest_of(video: Path, cache: DigestCache) -> str:
    return SourceDigests(cache).of(source(video), "visual")["video"]


def digest(work: Path, video: Path, *, read_only: bool = False) -> str:
    """The digest with a newly opened cache, as another process gets it."""
    with open_cache(work, read_only=read_only) as cache:
        return digest_of(video, cache)


def test_a_file_is_hashed_once_and_not_again_by_later_processes(video, work, read, clock):
    assert [digest(work, video) for _ in range(3)] == [sha256(b"first")] * 3
    assert digest(work, video, read_only=True) == sha256(b"first")
    assert read == [video]


def test_a_read_only_cache_writes_nothing(video, work, read, clock):
    assert digest(work, video, read_only=True) == sha256(b"first")
    assert list(work.iterdir()) == []


def test_a_changed_byte_is_noticed_though_size_and_mtime_are_put_back(video, work, read, clock):
    digest(work, video)
    before = video.stat()
    video.write_bytes(b"First")
    os.utime(video, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert video.stat().st_mtime_ns == before.st_mtime_ns
    assert digest(work, video) == sha256(b"First")  # by its ctime


@pytest.mark.parametrize("field", ["st_size", "st_mtime_ns", "st_ctime_ns", "st_ino"])
def test_a_file_is_hashed_again_if_one_field_of_its_stat_changed(
    video, work, read, clock, field, monkeypatch
):
    digest(work, video)
    stat = Path.stat

    class Changed:
        def __init__(self, before):
            self._before = before

        def __getattr__(self, name):
            return getattr(self._before, name) + (name == field)

    monkeypatch.setattr(
        Path,
        "stat",
        lambda self, **keys: Changed(stat(self, **keys)) if self == video else stat(self, **keys),
    )
    digest(work, video)
    assert read == [video] * 2


@pytest.mark.parametrize(("ahead_ns", "n_reads"), [(0, 2), (MIN_AGE_NS // 2, 2), (LATER_NS, 1)])
def test_the_digest_of_a_file_that_just_changed_is_not_kept(
    video, work, read, clock, ahead_ns, n_reads
):
    clock[0] = ahead_ns  # its mtime is old, its ctime is not
    assert [digest(work, video), digest(work, video)] == [sha256(b"first")] * 2
    assert len(read) == n_reads


@pytest.mark.parametrize("years", [-10, 10])
def test_a_clock_that_is_wrong_by_years_costs_time_and_changes_nothing(
    video, work, read, clock, years
):
    digest(work, video)
    clock[0] = years * 365 * 86_400 * 10**9
    assert digest(work, video) == sha256(b"first")
    assert len(read) == (2 if years < 0 else 1)  # its stat was taken in the future
    clock[0] = LATER_NS
    assert digest(work, video) == sha256(b"first")
    video.write_bytes(b"other")
    assert digest(work, video) == sha256(b"other")


def test_the_fingerprint_depends_on_the_names_and_their_order(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "stat", lambda self: os.stat(__file__))
    orders = [[tmp_path / name for name in names] for names in ("ab", "ba", "ac")]
    assert len({file_stat(paths).fingerprint for paths in orders}) == 3


@pytest.fixture
def crops(tmp_path) -> Path:
    folder = tmp_path / "crops"
    folder.mkdir()
    for k in (1, 2, 30):
        (folder / f"{k:05d}.jpg").write_bytes(bytes([k]))
    return folder


def crops_digest(work: Path, folder: Path) -> str:
    with open_cache(work) as cache:
        return SourceDigests(cache).of(source(None, frames=folder), "visual")["frames"]


def test_crops_have_one_digest_that_does_not_depend_on_their_folder(
    crops, tmp_path, work, read, clock
):
    lines = "".join(f"{k}:{sha256(bytes([k]))}\n" for k in (1, 2, 30))
    assert crops_digest(work, crops) == crops_digest(work, crops) == sha256(lines.encode())
    assert len(read) == 3
    shutil.copytree(crops, tmp_path / "moved")
    assert crops_digest(work, tmp_path / "moved") == sha256(lines.encode())


def test_a_changed_renamed_or_missing_crop_changes_the_digest(crops, work, clock):
    digests = [crops_digest(work, crops)]
    (crops / "00002.jpg").write_bytes(b"\x09")
    digests.append(crops_digest(work, crops))
    (crops / "00030.jpg").rename(crops / "00031.jpg")
    digests.append(crops_digest(work, crops))
    (crops / "00031.jpg").unlink()
    digests.append(crops_digest(work, crops))
    assert len(set(digests)) == 4


def damage(path: Path, kind: str, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    if kind == "flipped bits":
        for _ in range(rng.choice([1, 3, 40])):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
    elif kind == "cut":
        path.write_bytes(data[: rng.randrange(len(data))])
    elif kind == "text":
        path.write_text("no database")
    elif kind == "another table":
        path.unlink()
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE digests (path BLOB)")
        database.close()
    elif kind == "folder":
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize("kind", ["flipped bits", "cut", "text", "another table", "folder"])
def test_a_damaged_cache_gives_neither_a_wrong_digest_nor_an_error(video, work, clock, kind):
    videos = [video.with_name(f"{k}.mp4") for k in range(20)]
    for k, path in enumerate(videos):
        path.write_bytes(bytes([k]))
    rng = random.Random(0)
    for _ in range(30 if kind in ("flipped bits", "cut") else 1):
        for path in videos:
            digest(work, path)
        damage(digest_cache_file(work), kind, rng)
        for read_only in (True, False):
            for k, path in enumerate(videos):
                assert digest(work, path, read_only=read_only) == sha256(bytes([k]))


def test_a_damaged_cache_is_replaced(video, work, read, clock):
    (digest_cache_file(work)).write_text("no database " * 100)
    for _ in range(3):
        digest(work, video)
    assert read == [video]


def test_an_entry_that_was_changed_in_a_sound_database_is_not_used(video, work, clock):
    digest(work, video)
    with sqlite3.connect(digest_cache_file(work)) as database:
        database.execute("UPDATE digests SET sha256 = replace(sha256, '1', '2')")
    database.close()
    assert digest(work, video) == sha256(b"first")


def test_without_a_work_folder_a_file_is_hashed_once_per_process(video, tmp_path, read, clock):
    work = tmp_path / "none.work"
    with open_cache(work) as cache:
        assert [digest_of(video, cache), digest_of(video, cache)] == [sha256(b"first")] * 2
    assert len(read) == 1
    assert digest(work, video) == sha256(b"first")
    assert len(read) == 2
    assert not work.exists()


def test_a_cache_that_cannot_be_written_is_still_read(video, work, read, clock):
    digest(work, video)
    (digest_cache_file(work)).chmod(0o400)
    for read_only in (True, False):
        assert digest(work, video, read_only=read_only) == sha256(b"first")
    assert len(read) == 1


def test_a_locked_cache_is_neither_waited_for_nor_replaced(video, work, read, clock, short_wait):
    digest(work, video)
    inode = (digest_cache_file(work)).stat().st_ino
    other = sqlite3.connect(digest_cache_file(work), isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert digest(work, video) == sha256(b"first")
    other.execute("COMMIT")
    other.close()
    read.clear()
    assert digest(work, video) == sha256(b"first")
    assert not read
    assert (digest_cache_file(work)).stat().st_ino == inode


def test_a_saved_digest_is_not_kept_in_memory_too(video, work, read, clock):
    with open_cache(work) as cache:
        digest_of(video, cache)
        cache.save()
        with sqlite3.connect(digest_cache_file(work)) as database:
            database.execute("DELETE FROM digests")
        database.close()
        assert cache.get(video, file_stat([video])) is None


def test_a_digest_that_the_database_does_not_take_is_kept_and_saved_later(
    video, work, read, clock, short_wait
):
    with open_cache(work) as cache:
        other = sqlite3.connect(digest_cache_file(work), isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        digest_of(video, cache)
        cache.save()
        digest_of(video, cache)
        other.close()
    assert read == [video]
    assert digest(work, video) == sha256(b"first")
    assert read == [video]


def test_a_merged_cache_has_the_digests_of_one_without_a_database(video, work, read, clock):
    with open_cache(work.with_name("none.work")) as unsaved:
        digest_of(video, unsaved)
    with open_cache(work) as cache:
        cache.merge(unsaved)
    assert digest(work, video) == sha256(b"first")
    assert read == [video]


def test_video_and_sound_of_one_file_are_looked_up_once(video, read):
    known: dict[str, str] = {}
    digests = SourceDigests()
    visual = digests.of(source(video), "visual", known)
    audio = digests.of(source(video), "audio", known)
    assert visual["video"] == audio["sound"] == sha256(b"first")
    assert read == [video]


def test_a_missing_file_is_a_media_error(tmp_path):
    with pytest.raises(MediaError, match="none.mp4 cannot be read") as raised:
        SourceDigests().of(source(tmp_path / "none.mp4"), "visual")
    assert raised.value.code == "missing"


def test_a_pipe_or_a_device_is_not_read(tmp_path, read):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "zeros.mp4").symlink_to("/dev/zero")
    for name in ("pipe.mp4", "zeros.mp4"):
        with pytest.raises(MediaError, match=f"{name} is a pipe or a device") as raised:
            SourceDigests().of(source(tmp_path / name), "visual")
        assert raised.value.code == "unreadable"
    assert read == []


def test_several_processes_write_to_one_cache(work):
    code = (
        "import sys; from pathlib import Path;"
        "from features.freshness import digest_cache as module\n"
        "module.BUSY_TIMEOUT_S = 60\n"
        "stat = module.FileStat('x', 0, 10**19 // 2)\n"
        "with module.open_cache(Path(sys.argv[1])) as cache:\n"
        "    for k in range(200):\n"
        "        path = Path(str(k))\n"
        "        assert cache.get(path, stat) in (None, str(k))\n"
        "        cache.put(path, stat, str(k))\n"
        "        assert cache.get(path, stat) == str(k)\n"
    )
    command = [sys.executable, "-c", code, str(work)]
    children = [subprocess.Popen(command) for _ in range(4)]
    assert [child.wait() for child in children] == [0] * 4
    with open_cache(work, read_only=True) as cache:
        stat = FileStat("x", 0, 10**19 // 2)
        assert [cache.get(Path(str(k)), stat) for k in range(200)] == [str(k) for k in range(200)]


@pytest.mark.parametrize("name", ["caf\udce9", "4.05\u202fPM", "a?b#c%d"])
def test_a_name_of_any_kind_is_found_again(tmp_path, name):
    work = tmp_path / f"{name}.work"
    work.mkdir()
    path, stat = tmp_path / f"{name}.mp4", FileStat("x", 0, 10**19 // 2)
    with open_cache(work) as cache:
        cache.put(path, stat, "digest")
    for read_only in (True, False):
        with open_cache(work, read_only=read_only) as cache:
            assert cache.get(path, stat) == "digest"
