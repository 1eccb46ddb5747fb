"""Features made elsewhere become a feature set that is verified like any other."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from features.clip import Track
from features.errors import InputError
from features.freshness.media_digests import SourceDigests
from features.imports.import_features import import_features, render_import
from features.imports.options import ImportOptions, ReadOptions
from features.maintenance.listing import listing
from features.maintenance.status import status
from features.maintenance.verify import verify
from features.maintenance.why import why
from features.manifest.manifest import read_manifest
from features.media import decoder_version
from features.spec import FeatureSpec
from features.store.feature_store import FeatureStore
from tests.helpers.small_stores import content, write_clips

pytestmark = pytest.mark.slow

ROWS = {
    "a": (np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), np.array([0.1, 0.2, 0.35])),
    "b": (np.array([[-1.0, 0.5]]), np.array([0.0])),
}
FIRST = ROWS["a"]


@pytest.fixture
def folder(tmp_path) -> Path:
    """Clips a, b, c of m.jsonl; a and b have features of an encoder in s.zarr."""
    return write_clips(tmp_path)


def bring(folder: Path, *names: str, modality="visual", on_progress=None, **keys):
    """Import files into s.zarr."""
    made = {k: keys.pop(k) for k in ("has_frame_rows", "version") if k in keys}
    files = tuple(folder / name for name in names)
    kind = keys.pop("kind", "openface")
    options = ImportOptions(files, kind, modality, ReadOptions(**keys), **made)
    return import_features(options, str(folder / "s.zarr"), folder / "m.jsonl", on_progress)


def write_csv(folder: Path, name: str = "f.csv", rows=None, header: str = "clip,time,x,y") -> str:
    given = (
        rows
        if rows is not None
        else [
            f"{clip},{t},{v[0]},{v[1]}"
            for clip, (values, times) in ROWS.items()
            for t, v in zip(times, values, strict=True)
        ]
    )
    (folder / name).write_text("\n".join([header, *given]) + "\n")
    return name


def write_npz(folder: Path) -> str:
    arrays = {clip: values for clip, (values, _) in ROWS.items()}
    np.savez(folder / "f.npz", **arrays, **{f"{c}.time_s": t for c, (_, t) in ROWS.items()})
    return "f.npz"


def write_npz_table(folder: Path) -> str:
    """Rows of both clips, of which those of b come between those of a."""
    clip = np.array(["a", "b", "a", "a"])
    order = np.argsort(np.argsort(clip != "a", kind="stable"), kind="stable")
    values, times = (np.concatenate([each[k] for each in ROWS.values()]) for k in (0, 1))
    np.savez(folder / "t.npz", features=values[order], clip=clip, time=times[order])
    return "t.npz"


def write_h5(folder: Path) -> str:
    with h5py.File(folder / "f.h5", "w") as file:
        for clip, (values, times) in ROWS.items():
            file[f"{clip}/features"], file[f"{clip}/time_s"] = values, times
    return "f.h5"


def write_parquet(folder: Path) -> str:
    import pyarrow
    from pyarrow import parquet

    flat = [(c, t, *v) for c, (vs, ts) in ROWS.items() for t, v in zip(ts, vs, strict=True)]
    columns = dict(zip(("clip", "time", "x", "y"), map(list, zip(*flat, strict=True)), strict=True))
    parquet.write_table(pyarrow.table(columns), folder / "f.parquet")
    return "f.parquet"


@pytest.mark.parametrize("write", [write_csv, write_npz, write_npz_table, write_h5, write_parquet])
def test_each_kind_of_file_is_read_to_the_same_rows(folder, write):
    result = bring(folder, write(folder))
    assert (result.written, result.present, result.without) == (["a", "b"], [], ("c",))
    assert (result.n_rows, result.width) == (4, 2)
    store = FeatureStore.open(folder / "s.zarr")
    for clip, (values, times) in ROWS.items():
        track = store.read(result.feature_set, clip)
        np.testing.assert_array_equal(track.values, values.astype(np.float16))
        np.testing.assert_array_equal(track.time_s, times)
        assert track.valid.all()


def test_a_npy_is_of_the_clip_of_its_name_and_has_the_times_of_a_rate_or_a_file(folder):
    np.save(folder / "a.npy", FIRST[0])
    np.save(folder / "other.npy", FIRST[0])
    np.save(folder / "times.npy", FIRST[1])
    store = FeatureStore.open(folder / "s.zarr")
    by_rate = bring(folder, "a.npy", fps=4.0)
    assert store.read(by_rate.feature_set, "a").time_s.tolist() == [0, 0.25, 0.5]
    by_file = bring(folder, "other.npy", clip="b", times=folder / "times.npy")
    assert by_file.feature_set == by_rate.feature_set
    assert store.read(by_file.feature_set, "b").time_s.tolist() == FIRST[1].tolist()
    assert bring(folder, "a.npy", fps=5.0).replaced == {"a": "source changed: imported_rows"}


def test_several_files_are_one_feature_set_in_any_order_and_wherever_they_are(folder):
    for clip in "ab":
        write_csv(folder, f"{clip}.csv", ["0.0,1,2"], "timestamp,x,y")
    first = bring(folder, "a.csv", "b.csv", time_column="timestamp")
    assert first.written == ["a", "b"]
    (folder / "moved").mkdir()
    for clip in "ab":
        (folder / f"{clip}.csv").rename(folder / f"moved/{clip}.csv")
    again = bring(folder, "moved/b.csv", "moved/a.csv", time_column="timestamp")
    assert (again.feature_set, again.present) == (first.feature_set, ["b", "a"])


def test_a_set_grows_by_other_files_and_replaces_only_the_clips_that_changed(folder):
    first = bring(folder, write_csv(folder))
    before = content(folder / "s.zarr")
    again = bring(folder, "f.csv", time_column="time")  # as it is by default
    assert (again.written, again.present) == ([], ["a", "b"])
    assert content(folder / "s.zarr") == before
    more = bring(folder, write_csv(folder, "g.csv", ["c,0,7,8"]))
    assert (more.feature_set, more.written, more.without) == (first.feature_set, ["c"], ())
    write_csv(folder, rows=["a,0.1,1,2.5", "b,0,-1,0.5"])
    changed = bring(folder, "f.csv")
    assert changed.feature_set == first.feature_set
    assert (changed.written, changed.present, changed.without) == (["a"], ["b"], ())
    assert [*render_import(changed)] == ["  replaced: a: source changed: imported_rows"]
    store = FeatureStore.open(folder / "s.zarr")
    assert store.clip_ids(first.feature_set) == ["a", "b", "c"]
    assert store.read(first.feature_set, "a").values.tolist() == [[1, 2.5]]
    assert not verify(folder / "s.zarr").problems


def test_another_version_width_or_header_is_a_set_of_its_own_and_says_how_it_differs(folder):
    first = bring(folder, write_csv(folder))
    newer = bring(folder, "f.csv", version="2.2")
    assert newer.others == {first.feature_set: 'model.version is null, here "2.2"'}
    write_csv(folder, "w.csv", ["a,0,1"], "clip,time,x")
    wider = bring(folder, "w.csv", version="2.2")
    assert wider.others[newer.feature_set].endswith("model.width is 2, here 1")
    lines = [*render_import(wider)]
    assert any("other features of this kind, too: openface-" in line for line in lines)


def test_a_set_of_an_earlier_vaflow_is_kept_and_named(folder):
    old = FeatureSpec(
        kind="openface",
        model={"name": "openface", "imported": "visual", "width": 2, "columns": ["x", "y"]},
        weights_sha256="1" * 64,
        preprocessing={},
        sampling={"clock": "own", "fps": None, "clip_column": "clip", "time_column": "time"},
        precision="float32",
    )
    track = Track(FIRST[0].astype(np.float16), FIRST[1], np.ones(3, bool))
    store = FeatureStore.open(folder / "s.zarr")
    digests = SourceDigests().of(
        read_manifest(folder / "m.jsonl").source(read_manifest(folder / "m.jsonl").clips[0]),
        "visual",
    )
    store.write(old, "a", track, source=digests, provenance={})
    result = bring(folder, write_csv(folder))
    assert result.others[old.name].startswith("made by an earlier vaflow, in which each import")
    found = status(str(folder / "s.zarr"), folder / "m.jsonl")
    states = {(c.clip, c.spec): c.state for c in found.clips}
    assert states["a", old.name] == states["a", result.feature_set] == "complete"
    assert store.read(old.name, "a").values.tolist() == FIRST[0].tolist()


def write_marked_csv(folder: Path) -> str:
    rows = ["a,0,1,2,1", "a,0.1,,x,0", "a,0.2,nan,9e9,false", "a,0.3,7,8,1.0"]
    return write_csv(folder, rows=rows, header="clip,time,x,y,success")


MARKED = np.array([[1.0, 2.0], [np.nan, 0], [np.nan, 9e9], [7.0, 8.0]])
MARKS = np.array([1, 0, 0, 1])


def write_marked_npz(folder: Path) -> str:
    times = np.arange(4) / 10
    np.savez(folder / "f.npz", **{"a": MARKED, "a.time_s": times, "a.success": MARKS})
    return "f.npz"


def write_marked_npz_table(folder: Path) -> str:
    clip, times = np.array(["a"] * 4), np.arange(4) / 10
    np.savez(folder / "f.npz", features=MARKED, clip=clip, time=times, success=MARKS)
    return "f.npz"


def write_marked_h5(folder: Path) -> str:
    with h5py.File(folder / "f.h5", "w") as file:
        file["a/features"], file["a/time_s"] = MARKED, np.arange(4) / 10
        file["a/success"] = MARKS.astype(bool)
    return "f.h5"


@pytest.mark.parametrize(
    "write", [write_marked_csv, write_marked_npz, write_marked_npz_table, write_marked_h5]
)
def test_rows_that_are_not_valid_are_masked_and_may_hold_anything(folder, write):
    result = bring(folder, write(folder), valid_column="success")
    track = FeatureStore.open(folder / "s.zarr").read(result.feature_set, "a")
    assert track.valid.tolist() == [True, False, False, True]
    assert track.values.tolist() == [[1, 2], [0, 0], [0, 0], [7, 8]]
    assert track.time_s.tolist() == pytest.approx([0, 0.1, 0.2, 0.3])


def test_marks_that_are_missing_or_are_no_marks_are_named(folder):
    name = write_csv(folder, rows=["a,0,1,2"])
    with pytest.raises(InputError, match="has no column 'success'; it has clip, time, x, y"):
        bring(folder, name, valid_column="success")
    with pytest.raises(InputError, match=r"line 2, column 'x': '1.5' does not say whether the row"):
        bring(folder, write_csv(folder, rows=["a,0,1.5,2"]), valid_column="x")
    for write, what in ((write_npz, "array 'a.success'"), (write_h5, "data set a/success")):
        with pytest.raises(InputError, match=f"clip 'a': there is no {what}; add it, or leave out"):
            bring(folder, write(folder), valid_column="success")
    np.savez(folder / "f.npz", **{"a": FIRST[0], "a.ok": np.array([1, 2, 0])})
    with pytest.raises(InputError, match="clip 'a', row 1: 2 does not say whether the row is val"):
        bring(folder, "f.npz", valid_column="ok", fps=1.0)
    np.savez(folder / "f.npz", **{"a": FIRST[0], "a.ok": np.array([1])})
    with pytest.raises(InputError, match=r"3 rows, and what says which are valid has the shape"):
        bring(folder, "f.npz", valid_column="ok", fps=1.0)


def test_times_in_ms_and_numbers_of_frames_are_brought_to_seconds(folder):
    store = FeatureStore.open(folder / "s.zarr")

    def times(rows, header, **keys):
        result = bring(folder, write_csv(folder, rows=rows, header=header), **keys)
        return store.read(result.feature_set, "a").time_s.tolist()

    rows = ["a,40,1", "a,1500,2"]
    assert times(rows, "clip,ms,x", time_column="ms", time_unit="ms") == [0.04, 1.5]
    rows = ["a,1,1", "a,4,2"]  # as OpenFace counts
    assert times(rows, "clip,frame,x", frame_column="frame", first_frame=1, fps=25.0) == [0, 0.12]
    np.savez(folder / "f.npz", **{"a": ONE, "a.time_s": np.array([0, 500])})
    result = bring(folder, "f.npz", time_unit="ms", version="npz")
    assert store.read(result.feature_set, "a").time_s.tolist() == [0, 0.5]


def test_a_set_that_was_imported_is_listed_verified_and_compared_with_its_media(folder):
    result = bring(folder, write_csv(folder), modality="audio")
    (row,) = [each for each in listing(str(folder / "s.zarr")) if each.spec == result.feature_set]
    assert (row.modality, row.model, row.clips) == ("audio", "openface", ("a", "b"))
    spec = FeatureStore.open(folder / "s.zarr").spec(result.feature_set)
    assert spec.model["columns"] == ["x", "y"]
    assert not verify(folder / "s.zarr").problems

    def states() -> dict[str, str]:
        found = status(str(folder / "s.zarr"), folder / "m.jsonl")
        assert not found.unknown_kinds
        return {c.clip: c.state for c in found.clips if c.spec == result.feature_set}

    assert states() == {"a": "complete", "b": "complete", "c": "missing"}
    (folder / "a.mp4").write_text("another video")
    assert states() == {"a": "stale", "b": "complete", "c": "missing"}
    (found,) = [
        each
        for each in why(str(folder / "s.zarr"), "a", folder / "m.jsonl")
        if each.spec == result.feature_set
    ]
    assert [each.field for each in found.differences] == ["source.sound"]
    assert bring(folder, "f.csv", modality="audio").written == ["a"]
    assert states()["a"] == "complete"


def test_what_a_later_decoder_reads_differently_does_not_matter(folder, monkeypatch):
    result = bring(folder, write_csv(folder))
    monkeypatch.setattr("features.freshness.clip_state.DECODING", decoder_version.DECODING + 1)
    monkeypatch.setattr(
        "features.freshness.media_digests.SourceDigests.changes", lambda *_: "everything"
    )
    found = status(str(folder / "s.zarr"), folder / "m.jsonl")
    states = {(c.clip, c.spec.partition("-")[0]): c.state for c in found.clips}
    assert states["a", "openface"] == "complete"
    assert states["a", "clip"] == "stale"
    assert result.written


def test_a_damaged_record_is_imported_again(folder):
    result = bring(folder, write_csv(folder))
    (folder / f"s.zarr/{result.feature_set}/a/values/c/0/0").unlink()
    again = bring(folder, "f.csv")
    assert (again.written, again.present) == (["a"], ["b"])
    assert not verify(folder / "s.zarr").problems


def test_an_import_that_is_killed_leaves_a_valid_store_and_is_completed(folder):
    write_csv(folder)
    code = (
        "import os, signal\nfrom pathlib import Path\n"
        "from features.imports.import_features import import_features\n"
        "from features.imports.options import ImportOptions\n"
        "options = ImportOptions((Path('f.csv'),), 'openface', 'visual')\n"
        "kill = lambda done, total: os.kill(os.getpid(), signal.SIGKILL)\n"
        "import_features(options, 's.zarr', Path('m.jsonl'), kill)"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=os.environ | {"PYTHONPATH": str(root)}
    )
    assert done.returncode == -signal.SIGKILL
    assert not verify(folder / "s.zarr").problems
    result = bring(folder, "f.csv")
    assert (result.present, result.written) == (["a"], ["b"])


def test_clips_that_the_manifest_lacks_are_left_out_and_named(folder):
    write_csv(folder, rows=["a,0,1,2", "a2,0,1,2"])
    result = bring(folder, "f.csv")
    assert result.written == ["a"]
    (line, *_) = render_import(result)
    assert line.endswith(
        f"f.csv, clip 'a2': {folder / 'm.jsonl'} has no such clip; did you mean 'a'?"
    )
    write_csv(folder, rows=["x,0,1,2"])
    with pytest.raises(InputError, match="has none of the clips of .*f.csv: x; its clips are a, b"):
        bring(folder, "f.csv")


def test_a_clip_without_its_media_is_named_and_the_others_are_written(folder):
    (folder / "a.mp4").unlink()
    result = bring(folder, write_csv(folder))
    assert result.written == ["b"]
    assert [line for line in result.failed if line.startswith("a: ") and "a.mp4" in line]


def test_a_file_that_changes_while_it_is_imported_is_refused(folder):
    for clip in "ab":
        write_csv(folder, f"{clip}.csv", ["0,1,2"], "time,x,y")

    def change(done: int, total: int) -> None:
        write_csv(folder, "b.csv", ["0,1,3"], "time,x,y")

    with pytest.raises(InputError, match="b.csv changed while it was imported; run the same again"):
        bring(folder, "a.csv", "b.csv", on_progress=change)


BAD_ROWS = {
    "a,0,1,2|a,0,3,4": r"f.csv, clip 'a', line 3: the time 0.0 s comes twice .*: remove one of the",
    "a,1,1,2|a,0,3,4": r"line 3: the time 0.0 s comes after a later one .* 1.0 s\).*: sort the",
    "a,nan,1,2": r"line 2: the time is nan; a time must be a finite number of seconds",
    "b,0,1,2|a,0,1,nan": r"f.csv, clip 'a', line 3, column 'y': nan; every value must be finite",
    "a,0,-inf,1": r"line 2, column 'x': -inf; every value must be finite",
    "a,0,1,-70000": r"line 2, column 'y': -70000.0; values are stored in float16, up to 65504",
    "a,0,one,2": r"f.csv, line 2, column 'x': 'one' is no number; .* leave out the column with",
    "a,soon,1,2": r"f.csv, line 2, column 'time': 'soon' is no number",
    ",0,1,2": r"f.csv, line 2: 'clip' is empty; name the clip",
    "a,0,1": r"f.csv, line 2: 3 cells, but the header has 4 columns",
    "": r"f.csv has no row below its header",
}  # fmt: skip


@pytest.mark.parametrize("rows", BAD_ROWS)
def test_rows_that_break_a_rule_are_named_and_nothing_is_written(folder, rows):
    write_csv(folder, rows=rows.split("|") if rows else [])
    before = content(folder / "s.zarr")
    with pytest.raises(InputError, match=BAD_ROWS[rows]):
        bring(folder, "f.csv")
    assert content(folder / "s.zarr") == before


ONE = np.ones((2, 2))
BAD_ARRAYS = {
    "one axis": ({"a": np.ones(3)}, r"f.npz, clip 'a': the features have the shape \(3,\)"),
    "no column": ({"a": np.ones((3, 0))}, r"the shape \(3, 0\); they must be rows of 1 to 65536"),
    "no row": ({"a": np.ones((0, 2))}, r"clip 'a': 0 rows; a clip needs 1 to 10000000"),
    "text": ({"a": np.array([["x"]])}, r"the features are of type <U1; they must be numbers"),
    "too few times": ({"a": ONE, "a.time_s": np.zeros(1)}, r"2 rows of .* times of the shape \(1,"),
    "times and a rate": ({"a": ONE, "a.time_s": np.arange(2)}, r"it has times, and --fps is given"),
    "other width": ({"a": ONE, "b": np.ones((2, 3))}, r"'b': rows of 3 numbers, and .*'a' has 2"),
    "value": ({"a": ONE * [[1, np.nan]]}, r"f.npz, clip 'a', row 0, column 1: nan; every value"),
    "objects": ({"a": np.array([[None]])}, r"is damaged, or no .npz of numbers \(objects of Pyth"),
    "no clip": ({"features": ONE}, r"has the array 'features' and no 'clip', only features"),
    "clips": ({"features": ONE, "clip": np.array(["a"])}, r"'clip' has the shape \(1,\)"),
    "nothing": ({}, r"f.npz holds no array"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_arrays_that_break_a_rule_are_named(folder, case):
    arrays, message = BAD_ARRAYS[case]
    np.savez(folder / "f.npz", **arrays)
    with pytest.raises(InputError, match=message):
        bring(folder, "f.npz", fps=None if case == "too few times" else 25.0)


def test_arrays_without_times_or_with_too_few_of_them_are_named(folder):
    np.savez(folder / "f.npz", a=ONE)
    with pytest.raises(InputError, match="there are no times; give an array 'a.time_s', or rows a"):
        bring(folder, "f.npz")
    np.savez(folder / "f.npz", features=ONE, clip=np.array(["a", "a"]), time=np.zeros(3))
    with pytest.raises(InputError, match=r"'time' has the shape \(3,\), the clips \(2,\)"):
        bring(folder, "f.npz")


def test_h5_without_the_documented_groups_is_named(folder):
    with h5py.File(folder / "f.h5", "w") as file:
        file["a"] = ONE
    with pytest.raises(InputError, match="clip 'a': there is no data set a/features; each clip is"):
        bring(folder, "f.h5")
    with h5py.File(folder / "f.h5", "w") as file:
        file["a/features"] = ONE
    with pytest.raises(InputError, match="no times; give a data set a/time_s, or rows a second"):
        bring(folder, "f.h5")
    with h5py.File(folder / "f.h5", "w"):
        pass
    with pytest.raises(InputError, match="f.h5 holds no group; it needs one per clip"):
        bring(folder, "f.h5")


@pytest.mark.parametrize("name", ["f.npy", "f.npz", "f.h5"])
def test_a_file_that_is_cut_off_or_of_another_format_is_refused(folder, name):
    (folder / name).write_bytes(b"")
    with pytest.raises(InputError, match=f"{name} is empty"):
        bring(folder, name, fps=1.0)
    np.save(folder / "a.npy", np.ones((9, 9)))
    write_h5(folder), write_npz(folder)
    source = {"f.npy": "a.npy"}.get(name, name)
    (folder / name).write_bytes((folder / source).read_bytes()[:70])
    with pytest.raises(InputError, match=f"{name} is damaged, or no"):
        bring(folder, name, fps=1.0)
    (folder / name).write_text("clip,time,x\na,0,1\n")
    with pytest.raises(InputError, match=f"{name} is damaged, or no"):
        bring(folder, name, fps=1.0)


HEADERS = {
    "clip,t,x,y": ({}, "has no column 'time', only clip, t, x, y; say which .* --time-column"),
    "clip,time,x,z": ({"drop": ("w",)}, "has no column 'w'; it has clip, time, x, z"),
    "clip,time": ({}, "has no column of features, only clip, time"),
    "clip,time,x,a": ({"fps": 5.0}, "has a column 'time', and --fps is given; leave out --fps"),
    "clip,time,x,b": ({"clip": "a"}, "has a column 'clip', and --clip is given; leave out --clip"),
    "clip,time,x,x": ({}, "has two columns 'x'; rename one"),
}


@pytest.mark.parametrize("header", HEADERS)
def test_a_header_that_does_not_fit_the_options_is_refused(folder, header):
    keys, message = HEADERS[header]
    rows = [",".join(["a", *"0123"][: header.count(",") + 1])]
    write_csv(folder, rows=rows, header=header)
    with pytest.raises(InputError, match=message):
        bring(folder, "f.csv", **keys)


def test_columns_can_be_dropped(folder):
    write_csv(folder)
    assert bring(folder, "f.csv", drop=("x",)).width == 1
    assert bring(folder, "f.csv", drop=("time",), fps=10.0).width == 2


def test_files_that_do_not_belong_together_are_refused(folder):
    write_csv(folder, "f.csv", ["a,0,1,2"])
    write_csv(folder, "g.csv", ["a,1,1,2"])
    with pytest.raises(InputError, match="g.csv, clip 'a': its rows are also in .*f.csv, clip 'a'"):
        bring(folder, "f.csv", "g.csv")
    write_csv(folder, "g.csv", ["b,1,1,2"], "clip,time,y,x")
    with pytest.raises(InputError, match="g.csv, clip 'b': its columns are not those of .*f.csv"):
        bring(folder, "f.csv", "g.csv")


OPTIONS = {
    "--kind 'OpenFace': give a name of small letters": {"kind": "OpenFace"},
    "--kind 'clip' is the kind of an encoder of vaflow": {"kind": "clip"},
    "--frame-rows: rows of sound are no frames": {"modality": "audio", "has_frame_rows": True},
    "--fps 0: give rows a second, above 0": {"fps": 0.0},
    "--fps and --time-column both say": {"fps": 1.0, "time_column": "t"},
    "--times: .*f.csv has times of its own": {"times": Path("t.npy")},
    "--fps and --time-unit both say": {"fps": 1.0, "time_unit": "ms"},
    "--frame-column needs the frames a second; give them with --fps": {"frame_column": "f"},
    "--first-frame is about --frame-column": {"first_frame": 1, "fps": 1.0},
}


@pytest.mark.parametrize("message", OPTIONS)
def test_options_that_do_not_fit_are_refused(folder, message):
    write_csv(folder)
    with pytest.raises(InputError, match=message):
        bring(folder, "f.csv", **OPTIONS[message])


def test_options_of_one_clip_are_refused_for_files_of_several(folder):
    with pytest.raises(InputError, match="--clip is of one file, and there are 2"):
        bring(folder, "a.npy", "b.npy", clip="a", fps=1.0)
    with pytest.raises(InputError, match="--clip: .*f.npz names its clips itself"):
        bring(folder, write_npz(folder), clip="a")
    with pytest.raises(InputError, match="--frame-column: .*f.npz is no table; give its times"):
        bring(folder, "f.npz", frame_column="f", fps=1.0)
    with pytest.raises(InputError, match="--valid-column: .*a.npy holds one array; write an .npz"):
        bring(folder, "a.npy", valid_column="ok", fps=1.0)
    np.save(folder / "a.npy", ONE)
    with pytest.raises(InputError, match="--times: there is no file .*none.npy"):
        bring(folder, "a.npy", times=folder / "none.npy")
    (folder / "f.txt").write_text("x")
    with pytest.raises(InputError, match="ends in '.txt'; features are read from .npy, .npz, .h5"):
        bring(folder, "f.txt")
    with pytest.raises(InputError, match="there is no file .*none.csv"):
        bring(folder, "none.csv")


@pytest.mark.parametrize(
    ("model", "modality"),
    [({"imported": "audio"}, "audio"), ({"imported": "smell"}, None), ({}, None)],
)
def test_the_modality_of_a_spec_of_a_foreign_store_is_one_that_exists(model, modality):
    spec = FeatureSpec(
        kind="openface",
        model=model,
        weights_sha256="0" * 64,
        preprocessing={},
        sampling={},
        precision="float32",
    )
    assert spec.modality == modality
