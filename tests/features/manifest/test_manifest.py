import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.clip import Clip
from features.errors import InputError
from features.manifest.manifest import read_manifest, write_manifest

GOOD = {"id": "12", "video": "a/12.mp4"}


def test_what_is_written_is_read(tmp_path):
    clips = (
        Clip(id="12", video="a/12.mp4", split="train", fps=29.97),
        Clip(id="12_left", frames="c/12_left", labels="l/12_left.txt", subject="é"),
    )
    write_manifest(tmp_path / "m.jsonl", clips)
    manifest = read_manifest(tmp_path / "m.jsonl")
    assert manifest.clips == clips
    assert manifest.root == tmp_path.resolve()
    assert manifest.source(clips[1]).frames == tmp_path / "c" / "12_left"
    assert manifest.source(clips[1]).video is None


FILE_NAMES = st.binary(min_size=1, max_size=40).filter(
    lambda name: not {*name} & {*range(32), 127, ord("/")} and b"\xc2" not in name and name != b".."
)  # C2 begins the control characters from 80 to 9F


@given(name=FILE_NAMES)
def test_any_name_of_a_file_is_written_and_read(tmp_path_factory, name):
    path = tmp_path_factory.getbasetemp() / "any-name.jsonl"
    clip = Clip(id="a", video=os.fsdecode(name))
    write_manifest(path, [clip])
    [found] = read_manifest(path).clips
    assert found == clip
    assert os.fsencode(found.video or "") == name
    path.read_bytes().decode()  # a program in any language can read it


def test_a_byte_that_is_no_utf_8_is_an_escape_in_the_file(tmp_path):
    write_manifest(tmp_path / "m.jsonl", [Clip(id="a", video="caf\udce9 \u202f.mp4")])
    assert b'"video": "caf\\udce9 \xe2\x80\xaf.mp4"' in (tmp_path / "m.jsonl").read_bytes()


@pytest.mark.parametrize("character", ["\n", "\t", "\x00", "\x1b", "\x7f", "\x85"])
@pytest.mark.parametrize("field", ["video", "frames", "labels", "audio"])
def test_a_control_character_in_a_path_is_refused_by_line(tmp_path, field, character):
    path = tmp_path / "m.jsonl"
    path.write_text("\n".join(json.dumps(x) for x in (GOOD, {"id": "b", field: f"a{character}b"})))
    message = rf"m\.jsonl, line 2: {field} = .*has a control character; rename the file"
    with pytest.raises(InputError, match=message) as raised:
        read_manifest(path)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ("[" * 100_000, "line 2: nested too deeply"),
        ('{"id": "b", "id": "c"}', "line 2: the key 'id' comes twice"),
        ('{"id": "b", "video": "\\ud800.mp4"}', "has a character that no file name should have"),
        ("[1]", "line 2: a list, but each line must be one object"),
        (json.dumps({**GOOD, "vidio": "x"}), "line 2: unknown key 'vidio'; .* is 'video'"),
        (json.dumps({"video": "x"}), "line 2: the key 'id' is missing"),
        (json.dumps({"id": "../x"}), "line 2: the id '../x' is not safe as a name"),
        (json.dumps({"id": ".hidden"}), "is not safe as a name"),
        (json.dumps({"id": "caf\udce9"}), r"the id 'caf\\udce9' is not safe as a name"),
        (json.dumps({"id": "a/b"}), "is not safe as a name"),
        (json.dumps({"id": "x" * 129}), "is not safe as a name"),
        (json.dumps({"id": "zarr.json"}), "a name that the feature store uses itself"),
        (json.dumps({"id": "b", "video": "/etc/x"}), "video = '/etc/x': .* must be relative"),
        (json.dumps({"id": "b", "labels": "a/../../x"}), "must be relative .* stay inside"),
        (json.dumps({"id": "b", "split": "dev"}), "split = 'dev': Input should be 'train'"),
        (json.dumps({"id": "b", "fps": 0}), "fps = 0"),
        (json.dumps({"id": "a"}), "line 2: the id 'a' is already in line 1"),
        (json.dumps({"id": "A"}), "ids must differ in more than case"),
    ],
)
def test_the_first_bad_line_is_named(tmp_path, line, message):
    path = tmp_path / "m.jsonl"
    path.write_text(json.dumps({"id": "a"}) + "\n" + line + "\n")
    with pytest.raises(InputError, match=message):
        read_manifest(path)


def test_a_manifest_that_is_not_there_empty_or_no_text_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"there is no manifest at .*`vaflow index"):
        read_manifest(tmp_path / "m.jsonl")
    (tmp_path / "m.jsonl").write_text("\n\n")
    with pytest.raises(InputError, match="has no line"):
        read_manifest(tmp_path / "m.jsonl")
    (tmp_path / "m.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="no text file"):
        read_manifest(tmp_path / "m.jsonl")


def test_a_manifest_that_allows_a_folder_may_name_media_below_it(tmp_path):
    clips = (
        Clip(id="a", video="/data/videos/x/a.mp4", labels="l/a.txt"),
        Clip(id="b", frames="/data/videos", audio="/more/b.wav"),
    )
    write_manifest(tmp_path / "m.jsonl", clips, ["/data/videos", "/more"])
    manifest = read_manifest(tmp_path / "m.jsonl")
    assert manifest.clips == clips
    assert manifest.allow_outside == ("/data/videos", "/more")
    source = manifest.source(clips[0])
    assert str(source.video) == "/data/videos/x/a.mp4"
    assert manifest.path("l/a.txt") == tmp_path / "l" / "a.txt"
    assert manifest.select(["b"]).allow_outside == manifest.allow_outside


@pytest.mark.parametrize(
    ("first", "line", "message"),
    [
        ('{"allow_outside": ["/data/v"]}', {"video": "/data/videos/a.mp4"}, "allows \\(/data/v\\)"),
        ('{"allow_outside": ["/data"]}', {"labels": "/data/../etc/x"}, "line 2: labels = .*inside"),
        ('{"allow_outside": ["data"]}', {}, "line 1: allow_outside must .* absolute folders"),
        ('{"allow_outside": "/data"}', {}, "line 1: allow_outside must"),
        ('{"allow_outside": []}', {}, "line 1: allow_outside must"),
        ('{"allow_outside": ["/data/.."]}', {}, "line 1: allow_outside must"),
        ('{"allow_outside": ["/data"], "x": 1}', {}, "line 1: allow_outside must be alone"),
        ('{"id": "0"}\n{"allow_outside": ["/data"]}', {}, "line 2: unknown key 'allow_outside'"),
        ('{"id": "0"}', {"video": "/x"}, "it allows none.*--allow-outside ROOT"),
        ('{"allow_outside": ["/data"], "id": "0"}', {}, "line 1: unknown key 'allow_outside'"),
    ],
)
def test_a_path_that_the_first_line_does_not_allow_is_refused(tmp_path, first, line, message):
    path = tmp_path / "m.jsonl"
    path.write_text(first + "\n" + json.dumps({"id": "a", **line}) + "\n")
    with pytest.raises(InputError, match=message):
        read_manifest(path)
