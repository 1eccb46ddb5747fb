import os
from pathlib import Path

import pytest

from features.clip import Clip
from features.errors import InputError, MediaError
from models.prediction.people import manifest_of, whole_frame
from models.prediction.videos import find_videos, name_outputs, video_id


@pytest.fixture
def folder(tmp_path) -> Path:
    videos = ("b.MP4", "a.mkv", "deep/c.webm")
    earlier = ("earlier/predictions.json", "earlier/a.overlay.mp4")
    for name in (*videos, "notes.txt", ".DS_Store", "out/a.overlay.mp4", *earlier):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    return tmp_path / "in"


def test_a_folder_gives_its_videos_and_tells_its_other_files(folder):
    found = find_videos([str(folder)], folder / "out")
    assert found.paths == tuple(folder / name for name in ("a.mkv", "b.MP4", "deep/c.webm"))
    assert found.left_out == (folder / "notes.txt",)


def test_a_folder_is_entered_through_links_and_only_once(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "d.mp4").write_text("")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "loop").symlink_to(folder)
    found = find_videos([str(folder)], folder / "out")
    assert [path.name for path in found.paths] == ["a.mkv", "b.MP4", "c.webm", "d.mp4"]


def test_an_explicit_file_is_tried_whatever_its_suffix_and_only_once(folder):
    given = [str(folder / "notes.txt"), str(folder), str(folder / "deep" / ".." / "a.mkv")]
    found = find_videos(given, folder / "out")
    assert [path.name for path in found.paths] == ["notes.txt", "a.mkv", "b.MP4", "c.webm"]
    assert found.left_out == ()


def test_a_pattern_gives_what_matches(folder):
    found = find_videos([f"{folder}/*.m*"], folder / "out")
    assert [path.name for path in found.paths] == ["a.mkv"]
    found = find_videos([f"{folder}/**/*.[wt]*"], folder / "out")
    assert [path.name for path in found.paths] == ["c.webm"]
    assert found.left_out == (folder / "notes.txt",)


def test_without_a_video_the_message_says_where_was_looked(folder, tmp_path):
    with pytest.raises(InputError, match="there is no video at none.mp4; give a file, a folder"):
        find_videos(["none.mp4"], tmp_path)
    only = tmp_path / "texts"
    only.mkdir()
    (only / "a.txt").write_text("")
    with pytest.raises(InputError, match="no video in .*texts: its 1 files have other suffixes"):
        find_videos([str(only)], tmp_path)
    with pytest.raises(InputError, match="no video in nothing; give"):
        find_videos([], tmp_path)


def test_ids_are_those_of_clips_and_differ_by_path():
    paths = [Path(f"/a/{name}.mp4") for name in ("x", "X", "ü 你好", "你好", "." * 9, "a" * 300)]
    ids = [video_id(path) for path in (*paths, Path("/b/x.mp4"))]
    assert len(set(ids)) == len(ids)
    assert all(Clip(id=each) for each in ids)
    assert ids[0].startswith("x-")
    assert ids[0] == "x-" + video_id(Path("/a/x.mp4"))[2:]  # the same in every process


def test_names_of_outputs_are_unique_whatever_the_case_and_kept():
    paths = [Path(p) for p in ("/a/talk.mp4", "/b/Talk.mp4", "/b/talk.avi", "/c/index.mp4")]
    names = name_outputs(paths, {}, ["index"])
    assert list(names.values()) == ["talk", "b-Talk", "talk-2", "c-index"]
    known = {video_id(path): name for path, name in names.items()}
    again = name_outputs(reversed(paths), known, ["index"])
    assert again == names
    more = name_outputs([Path("/d/talk.mp4")], known)
    assert more == {Path("/d/talk.mp4"): "d-talk"}


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("ü 你好", "ü 你好"),
        ("a\nb:c", "a_b_c"),
        (".hidden", "_.hidden"),
        (os.fsdecode(b"\xff"), "_"),
        ("你" * 80, "你" * 40),
    ],
)
def test_names_of_outputs_are_file_names_that_can_be_shown(stem, name):
    path = Path(f"/a/{stem}.mp4")
    assert name_outputs([path], {}) == {path: name}


def test_a_person_of_the_whole_frame_is_a_clip_at_an_absolute_path():
    video = whole_frame(Path("/a/ü.mp4"), "ü")
    manifest = manifest_of([video])
    (person,) = video.people
    assert manifest.source(person.clip).video == Path("/a/ü.mp4")
    assert person.clip.id == video.id
    assert person.read_boxes is None
    with pytest.raises(MediaError, match="has a control character; rename the file"):
        whole_frame(Path("/a/\x07.mp4"), "_")
