"""The data set `table`, on small real videos."""

import json
from pathlib import Path

import numpy as np
import pytest

from features.datasets import dataset
from features.datasets.base import render_index, write_index
from features.errors import InputError
from features.manifest.labels import read_labels
from features.manifest.manifest import read_manifest
from tests.helpers.small_media import write_video

N_FRAMES = 10  # at 25 Hz: 0.4 s
HEADER = "clip,time,valence,arousal"


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("video") / "v.mp4"
    return write_video(path, time_s=np.arange(N_FRAMES) / 25).read_bytes()


@pytest.fixture(autouse=True)
def one_decoder(monkeypatch, kept_decoder) -> None:
    monkeypatch.setattr("features.datasets.entries.Decoder", kept_decoder)


@pytest.fixture
def media(tmp_path, video) -> Path:
    for name in ("a.mp4", "b.mp4", "sub/c d.mp4"):
        (tmp_path / "media" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "media" / name).write_bytes(video)
    return tmp_path / "media"


@pytest.fixture
def index(tmp_path, media):
    """A function that indexes a table, writes the manifest and gives both."""

    def run(text: str, name: str = "t.csv", **keys):
        (tmp_path / name).write_text(text)
        keys = {"media": media, **keys}
        config = dataset("table", tmp_path / name, **keys)
        indexed = config.index(tmp_path)
        write_index(tmp_path / "m.jsonl", indexed, config)
        return indexed

    return run


def labels_of(tmp_path: Path, clip_id: str):
    manifest = read_manifest(tmp_path / "m.jsonl")
    clip = next(clip for clip in manifest.clips if clip.id == clip_id)
    return read_labels(manifest.path(clip.labels or ""))


def test_ratings_in_any_order_keep_their_times_and_splits(index, tmp_path):
    indexed = index(
        "Video ID,Timestamp (ms),V,Activation,Speaker,Partition,x\n"
        "a,200,0.5,-0.5,anna,Train,\nb,0,1,1,bert,devel,\na,0,0.25,0,anna,Train,\na,100,,,anna,Train,\n",
        columns={"time": "Timestamp (ms)", "clip": "Video ID"},
    )
    labels = labels_of(tmp_path, "a")
    np.testing.assert_array_equal(labels.time_s, [0, 0.1, 0.2])
    np.testing.assert_array_equal(labels.va, [[0.25, 0], [0, 0], [0.5, -0.5]])
    np.testing.assert_array_equal(labels.valid, [True, False, True])
    a, b = read_manifest(tmp_path / "m.jsonl").clips
    assert (a.video, a.split, a.subject, a.fps) == ("media/a.mp4", "train", "anna", 25)
    assert (b.video, b.split, b.subject) == ("media/b.mp4", "val", "bert")
    lines = "\n".join(render_index(indexed))
    assert "note: times are in ms" in lines
    assert "valence = 'V', arousal = 'Activation', split = 'Partition'" in lines
    assert "columns that are not used: 'x'" in lines
    assert "clips by labels: ratings: 2" in lines
    assert "rows minus frames" not in lines


def test_rows_by_frame_are_a_row_per_frame_and_others_are_not_annotated(index, tmp_path):
    index("path,frame,valence,arousal,valid\na.mp4,1,0.1,0,1\na.mp4,3,0.3,0,1\na.mp4,4,9,9,0\n")
    labels = labels_of(tmp_path, "a")
    assert labels.is_per_frame
    np.testing.assert_array_equal(labels.va[:, 0], [0.1, 0, 0.3, *[0] * 7])
    np.testing.assert_array_equal(labels.valid, [True, False, True, *[False] * 7])
    index("path,frame,valence,arousal\na.mp4,1,0.1,0\n", first_frame=0)
    np.testing.assert_array_equal(np.flatnonzero(labels_of(tmp_path, "a").valid), [1])


def test_rows_without_time_are_frames_or_at_a_rate_or_for_a_whole_clip(index, tmp_path):
    rows = "".join(f"a,{k / 10},0\n" for k in range(N_FRAMES))
    index("clip,valence,arousal\n" + rows)
    assert labels_of(tmp_path, "a").is_per_frame
    index("clip,valence,arousal\na,0.1,0\na,0.2,0\n", rate_hz=4)
    np.testing.assert_array_equal(labels_of(tmp_path, "a").time_s, [0, 0.25])
    index("clip,valence,arousal\na,0.1,0\nb,0.2,0\n")
    whole = labels_of(tmp_path, "b")
    np.testing.assert_allclose([whole.time_s[0], whole.end_s[0]], [0, 0.4])
    indexed = index("clip,valence,arousal\na,0.1,0\na,0.2,0\nb,0.2,0\n")
    assert "its 2 rows have no time, and are not those of its 10 frames" in indexed.left_out["a"]
    assert "columns.time=NAME, or give their rate with rate_hz" in indexed.left_out["a"]


def test_spans_scales_and_ranges(index, tmp_path):
    indexed = index(
        "clip;start_ms;end_ms;valence;arousal\na;100;300;7;0.5\na;0;100;1;0\n",
        scale=[1, 7],
        arousal_scale=[0, 1],
    )
    labels = labels_of(tmp_path, "a")
    np.testing.assert_allclose(labels.va, [[-1, -1], [1, 0]])
    np.testing.assert_allclose(labels.time_s, [0, 0.1])
    np.testing.assert_allclose(labels.end_s, [0.1, 0.3])
    assert indexed.reports[0].labels_are == "spans"
    notes = index(f"{HEADER}\na,0,-0.5,0.5\na,0.1,0.5,0.25\n").notes
    assert [n for n in notes if "never below 0" in n] == [
        "arousal is never below 0 on a scale from -1 to 1; if it ranges from 0 to 1, give "
        "arousal_scale=[0,1]"
    ]


def test_paths_are_relative_absolute_or_like_urls_and_clips_are_found_by_name(
    index, tmp_path, media
):
    text = "path,valence,arousal\n"
    url = f"file://{media}/sub/c%20d.mp4"
    index(text + f"a.mp4,0,0\n{media}/b.mp4,0,0\n{url},0,0\n")
    clips = read_manifest(tmp_path / "m.jsonl").clips
    assert [(clip.id, clip.video) for clip in clips] == [
        ("a", "media/a.mp4"),
        ("b", "media/b.mp4"),
        ("c_d", "media/sub/c d.mp4"),
    ]
    index("clip,valence,arousal\nc d,0,0\na.mp4,0,0\n")
    clips = read_manifest(tmp_path / "m.jsonl").clips
    assert [(clip.id, clip.video) for clip in clips] == [
        ("c_d", "media/sub/c d.mp4"),
        ("a", "media/a.mp4"),
    ]
    (media / "d.wav").write_bytes(b"RIFF")
    text = "path,valence,arousal\na.mp4,0,0\nnone.mp4,0,0\nsub,0,0\nd.wav,0,0\n"
    indexed = index(text)
    missing = f"line 3: path (column 'path') = 'none.mp4': {media}/none.mp4 does not exist; "
    assert missing in indexed.left_out["none"]
    missing = index("clip,valence,arousal\nx,0,0\n").left_out["x"]
    assert f"line 2: clip (column 'clip') = 'x': no file of video or sound below {media}" in missing
    index("video,valence,arousal\na,0,0\nsub/c d,0,0\n")  # paths without suffix
    videos = [clip.video for clip in read_manifest(tmp_path / "m.jsonl").clips]
    assert videos == ["media/a.mp4", "media/sub/c d.mp4"]
    assert f"{media}/sub is a folder, not a file" in indexed.left_out["sub"]
    assert "its rows have no time, and there is no video" in indexed.left_out["d"]
    index(text, rate_hz=2)
    assert read_manifest(tmp_path / "m.jsonl").clips[-1].audio == "media/d.wav"


def test_media_elsewhere_are_named_if_that_is_allowed(index, tmp_path, video):
    disk = tmp_path.parent / f"{tmp_path.name}-disk"
    disk.mkdir()
    (disk / "x.mp4").write_bytes(video)
    text = f"path,valence,arousal\n{disk}/x.mp4,0,0\na.mp4,0,0\n"
    assert "allow the manifest to name absolute paths" in index(text).left_out["x"]
    index(text, allow_outside=(disk,))
    manifest = read_manifest(tmp_path / "m.jsonl")
    assert manifest.clips[0].video == f"{disk}/x.mp4"
    assert manifest.clips[1].video == "media/a.mp4"
    assert manifest.allow_outside == (str(disk),)


def test_files_of_one_name_in_two_folders_have_their_paths_as_ids(index, tmp_path, media, video):
    (media / "sub" / "a.mp4").write_bytes(video)
    index("path,valence,arousal\na.mp4,0,0\nsub/a.mp4,0,0\n")
    assert [clip.id for clip in read_manifest(tmp_path / "m.jsonl").clips] == ["a", "sub_a"]
    with pytest.raises(InputError, match=r"a\.mp4 and .*a\.mp4 have one name, 'a'"):
        index("clip,valence,arousal\na,0,0\n")


def test_splits_are_drawn_by_subject_and_by_seed(index, tmp_path):
    rows = "".join(f"clip{k},0,0,s{k // 2},a.mp4\n" for k in range(20))
    text = "clip,valence,arousal,subject,path\n" + rows

    def drawn(**keys) -> dict[str, str]:
        index(text, **keys)
        return {clip.id: clip.split for clip in read_manifest(tmp_path / "m.jsonl").clips}

    splits = drawn(val_share=0.2, test_share=0.3, seed=1)
    counts = {split: list(splits.values()).count(split) for split in ("train", "val", "test")}
    assert counts == {"train": 10, "val": 4, "test": 6}  # two clips a subject
    assert all(splits[f"clip{k}"] == splits[f"clip{k + 1}"] for k in range(0, 20, 2))
    assert drawn(val_share=0.2, test_share=0.3, seed=1) == splits
    assert drawn(val_share=0.2, test_share=0.3, seed=2) != splits
    with pytest.raises(InputError, match="10 subjects cannot be drawn into 9 for val"):
        drawn(val_share=0.9, test_share=0.1)


@pytest.mark.parametrize("suffix", ["tsv", "jsonl", "parquet"])
def test_other_formats_hold_the_same_table(index, tmp_path, suffix):
    rows = [("a", 0.0, 0.5, -0.5), ("a", 0.25, None, None), ("b", 0.0, 0.125, 0.0)]
    names = HEADER.split(",")
    if suffix == "tsv":
        lines = ["\t".join("" if c is None else str(c) for c in row) for row in (names, *rows)]
        index("\ufeff" + "\r\n".join(lines) + "\r\n", "t.tsv")  # as spreadsheets write it
    elif suffix == "jsonl":
        objects = [dict(zip(names, row, strict=True)) for row in rows]
        index("\n".join(map(json.dumps, objects)), "t.jsonl")
    else:
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow.parquet import write_table

        columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
        write_table(pyarrow.table(columns), tmp_path / "t.parquet")
        config = dataset("table", tmp_path / "t.parquet", media=tmp_path / "media")
        write_index(tmp_path / "m.jsonl", config.index(tmp_path), config)
    labels = labels_of(tmp_path, "a")
    np.testing.assert_array_equal(labels.va, [[0.5, -0.5], [0, 0]])
    np.testing.assert_array_equal(labels.time_s, [0, 0.25])
    np.testing.assert_array_equal(labels.valid, [True, False])


SPLIT = "clip,valence,arousal,subject,split\n"


@pytest.mark.parametrize(
    ("text", "keys", "message"),
    [
        (
            f"{HEADER}\na,0,0.1,1.5\n",
            {},
            r"line 2: arousal \(column 'arousal'\) = 1.5 .*two scales",
        ),
        (f"{HEADER}\na,0,3,3\n", {"valence_scale": [1, 7]}, "line 2: arousal .* from -1 to 1; if"),
        (f"{HEADER}\na,0,0.5,1\n", {"scale": [1, 7]}, "valence .* = 0.5 is outside .* from 1 to 7"),
        (f"{HEADER}\na,0,0,0\na,x,0,0\n", {}, r"line 3: time \(column 'time'\) = 'x' is no number"),
        (f"{HEADER}\na,0:01,0,0\n", {}, "time .* = '0:01' is no number; write a time in seconds"),
        ("clip;valence;arousal\na;0,5;0\n", {}, "'0,5' is no number; write a decimal point"),
        (
            "clip,start,end,valence,arousal\na,0,1,0,0\na,2,1.5,0,0\n",
            {},
            r"line 3: end \(column 'end'\) = '1.5' is not after the start, '2'; correct",
        ),
        ("clip,start,end,valence,arousal\na,2,2,0,0\n", {}, "line 2: end .* = '2' is not after"),
        (f"{HEADER}\na,0,0,0\n", {"scale": "1,7"}, r"a scale is \[LOW,HIGH\]"),
        (f"{HEADER}\na,0,0,hi\n", {}, r"line 2: arousal \(column 'arousal'\) = 'hi' is no number"),
        (f"{HEADER}\na,0,0,\n", {}, r"line 2: arousal .* = '', but the other value is given"),
        (
            f"{HEADER}\na,0,0,0\na,0,1,1\n",
            {},
            r"line 2 \(0\) and line 3 \(0\) of clip 'a' .* one time.* mean of several raters",
        ),
        (
            "clip,start,end,valence,arousal\na,0,2,0,0\na,3,4,0,0\na,1.5,3,0,0\n",
            {},
            r"line 2 \(0 to 2\) and line 4 \(1.5 to 3\) of clip 'a' .*overlap.*merge",
        ),
        (f"{HEADER}\n,0,0,0\n", {}, r"line 2: clip \(column 'clip'\) is empty"),
        (f"{HEADER}\na,0,0,0,1\n", {}, "line 2: 5 cells, but the header has 4 columns"),
        (f"{HEADER},valid\na,0,0,0,x\n", {}, "line 2: valid .* = 'x' must be 1 or 0"),
        (
            f"{HEADER}\na,0,0,0\na,-0.5,0,0\n",
            {},
            r"line 3: .* = '-0.5' is a negative time; times count from .* frame, .*add",
        ),
        (
            "clip,start_ms,end_ms,valence,arousal\na,-20,2000,0,0\n",
            {},
            r"line 2: .*'start_ms'.* = '-20' is a negative time",
        ),
        ("clip,frame,valence,arousal\na,1.5,0,0\n", {}, "frame .* = '1.5' is no number of a frame"),
        (
            "clip,frame,valence,arousal\na,7,0,0\n",
            {},
            "smallest number of a frame is 7; .*first_fr",
        ),
        ("clip,frame,valence,arousal\na,0,0,0\n", {"first_frame": 1}, "has a frame 0, but first"),
        (HEADER, {}, "has no row below its header"),
        ("clip,time,v,arousal,valence\na,0,0,0,0\n", {}, "'v', 'valence' could all be the valence"),
        ("clip,time,arousal\na,0,0\n", {}, "no column is known to be valence; it has 'clip', 'tim"),
        ("x,valence,arousal\na,0,0\n", {}, "known to name the clip or its file; it has 'x'"),
        ("clip,time,frame,valence,arousal\na,0,0,0,0\n", {}, "'frame', 'time' all say when"),
        ("clip,start,valence,arousal\na,0,0,0\n", {}, "no column is known to be the end"),
        (f"{HEADER}\na,0,0,0\n", {"columns": {"time": "t"}}, r"has no column 't' \(columns.time\)"),
        (f"{HEADER}\na,0,0,0\n", {"columns": {"tim": "t"}}, "unknown key 'columns.tim'; .* 'time'"),
        (f"{HEADER}\na,0,0,0\n", {"scale": [7, 1]}, r"a scale is \[LOW,HIGH\] with LOW < HIGH"),
        (f"{HEADER}\na,0,0,0\n", {"media": Path("none")}, "there is no folder .*none"),
        (
            "path,valence,arousal\nhttps://x/a.mp4,0,0\n",
            {},
            "'https://x/a.mp4' is not on this mach",
        ),
        ("clip,path,valence,arousal\na,,0,0\n", {}, r"line 2: path \(column 'path'\) is empty"),
        ("clip,path,valence,arousal\na,1,0,0\na,2,0,0\n", {}, "line 3: path .* = '2', but '1' in"),
        (SPLIT + "a,0,0,s,dev\nb,0,0,s,train\n", {}, "'s' is in val with clip 'a' and in train wi"),
        (SPLIT + "a,0,0,s,fold1\n", {}, r"line 2: split \(column 'split'\) = 'fold1' is no split"),
        (SPLIT + "a,0,0,s,dev\n", {"val_share": 0.5}, "column of splits .* and shares are given"),
        ("clip,valence,arousal\na b,0,0\na_b,0,0\n", {}, "'a b' and 'a_b' would both .* 'a_b'"),
    ],
)
def test_a_wrong_cell_column_or_key_is_named_with_its_remedy(index, text, keys, message):
    with pytest.raises(InputError, match=message) as raised:
        index(text, **keys)
    assert "\n" not in str(raised.value)


def test_shared_subjects_are_accepted_on_demand(index):
    text = SPLIT + "a,0,0,s,dev\nb,0,0,s,train\n"
    assert len(index(text, subjects_cross=True).clips) == 2
    one_file = "clip,path,valence,arousal,split\nx,a.mp4,0,0,train\ny,a.mp4,0,0,val\n"
    with pytest.raises(InputError, match="is in train with clip 'x' and in val with clip 'y'"):
        index(one_file)


def test_a_table_that_cannot_be_read_is_an_input_error(tmp_path):
    def raised(name: str, content: bytes | None) -> str:
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError) as error:
            dataset("table", tmp_path / name).index(tmp_path)
        return str(error.value)

    assert "cannot be read (No such file" in raised("none.csv", None)
    assert "is not text in UTF-8" in raised("l.csv", b"clip,valence\n\xff\xfe,0\n")
    assert "save it as CSV" in raised("l.xlsx", b"PK\x03\x04\xff")
    assert "line 1: not JSON" in raised("l.jsonl", b"{")
    assert "line 1: each line must be one object" in raised("m.jsonl", b"[1]")
    assert "is not Parquet" in raised("l.parquet", b"PAR0")
    assert "has two columns 'a'" in raised("d.csv", b"a,a\n1,2\n")


def test_labels_far_beyond_the_video_are_of_another_video_or_unit(index):
    indexed = index(f"{HEADER}\na,0,0,0\na,400,0,0\n")
    assert "its last label is at 400 s, but the video lasts 0.4 s" in indexed.left_out["a"]
    assert "if times are in ms, give time_unit=ms" in indexed.left_out["a"]
    assert not index("clip,millis,valence,arousal\na,0,0,0\na,400,0,0.1\n").left_out
