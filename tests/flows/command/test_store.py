import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from features.clip import Clip
from features.manifest.manifest import write_manifest
from flows.command.main import main
from tests.helpers.small_media import tone
from tests.helpers.small_stores import SPEC, content, make_track, send_away, write_clips

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Clips a, b, c of m.jsonl; a and b have features in s.zarr."""
    monkeypatch.chdir(tmp_path)
    return write_clips(tmp_path)


@pytest.fixture
def said(capsys):
    """Run a command; its exit status, and what it printed."""

    def run(*words: str) -> tuple[int, str]:
        status = main(list(words))
        return status, capsys.readouterr().out

    return run


def test_status_and_why_report_the_differences(folder, said):
    send_away(folder, "c")
    (folder / "a.mp4").write_text("others")
    status, out = said("status", "s.zarr", "m.jsonl")
    assert status == 1
    assert f"{SPEC.name}: 1 stale, 1 complete, 1 quarantined" in out
    assert f"quarantined: c ({SPEC.name}): damaged: moov atom not found" in out
    found = json.loads(said("status", "s.zarr", "m.jsonl", "--json")[1])
    assert found["counts"] == {"stale": 1, "complete": 1, "quarantined": 1}
    assert found["bytes"][SPEC.name] > 0
    assert said("why", "s.zarr", "b", "--manifest", "m.jsonl") == (
        0,
        f"{SPEC.name}: complete: nothing differs\n",
    )
    status, out = said("why", "s.zarr", "a", "--manifest", "m.jsonl")
    assert status == 1
    assert "source.video:" in out
    (found,) = json.loads(said("why", "s.zarr", "a", "--manifest", "m.jsonl", "--json")[1])["sets"]
    assert [d["field"] for d in found["differences"]] == ["source.video"]


def test_verify_reports_each_problem(folder, said, capsys):
    status, out = said("verify", "s.zarr")
    assert status == 0
    assert out.startswith("verify: s.zarr: 2 records, 14 files, ")
    assert out.endswith(": nothing is wrong\n")
    (folder / f"s.zarr/{SPEC.name}/a/valid/c/0").unlink()
    status, out = said("verify", "s.zarr")
    assert status == 1
    assert f"  {SPEC.name}/a/valid/c/0: is missing\n" in out
    assert out.endswith(": 1 problem\n")
    status, out = said("verify", "s.zarr", "--json")
    assert (status, json.loads(out)["problems"][0]["what"]) == (1, "is missing")
    assert main(["verify", "s.zarr", "--repair"]) == 2
    assert "give the config that made the store" in capsys.readouterr().err


def test_gc_lists_debris_and_removes_it_with_apply(folder, said):
    lost = folder / f"s.zarr.work/staging/{SPEC.name}.a.0123"
    lost.mkdir(parents=True)
    assert said("gc", "s.zarr") == (
        0,
        f"  staging: {Path('s.zarr.work/staging') / lost.name} (0 B)\n"
        "gc: s.zarr: 1 of 0 B can go (--apply removes them)\n",
    )
    assert lost.exists()
    assert json.loads(said("gc", "s.zarr", "--json")[1])["debris"][0]["kind"] == "staging"
    assert said("gc", "s.zarr", "--apply")[1].endswith("gc: s.zarr: 1 of 0 B removed\n")
    assert not lost.exists()
    assert said("gc", "s.zarr") == (0, "gc: s.zarr: nothing to remove\n")
    write_manifest(folder / "fewer.jsonl", [Clip(id="a", video="a.mp4")])
    assert f"record: s.zarr/{SPEC.name}/b" in said("gc", "s.zarr", "--manifest", "fewer.jsonl")[1]
    assert f"set: s.zarr/{SPEC.name}" in said("gc", "s.zarr", "--sets", SPEC.name)[1]
    assert main(["gc", "s.zarr", "--sets", "x-y"]) == 2


def test_ls_and_info_show_sets_and_clips(folder, said):
    status, out = said("ls", "s.zarr")
    assert status == 0
    assert SPEC.name in out
    assert [out.count("yes"), out.count("│ -")] == [2, 0]  # a mark for each of both clips
    (found,) = json.loads(said("ls", "s.zarr", "--json")[1])["sets"]
    assert (found["clips"], found["modality"]) == (["a", "b"], "visual")
    status, out = said("info", "s.zarr", "a")
    assert status == 0
    assert "5 x 3" in out
    (found,) = json.loads(said("info", "s.zarr", "a", "--json")[1])["sets"]
    assert (found["n_rows"], found["width"], found["n_files"]) == (5, 3, 7)
    assert main(["info", "s.zarr", "c"]) == 2
    (folder / f"s.zarr/{SPEC.name}/a/zarr.json").write_text("{")
    status, out = said("info", "s.zarr", "a")
    assert status == 1
    assert "damaged" in out


def test_stats_describe_the_rows(folder, said, capsys):
    status, out = said("stats", "s.zarr", "--manifest", "m.jsonl")
    assert status == 0
    assert "2 of 3 clips (66.67%); without: c" in out
    assert "most similar clips; 1 likely duplicate" in out
    status, out = said("stats", "s.zarr", "--json", "--set", SPEC.name)
    (found,) = json.loads(out)["sets"]
    assert (status, found["clips"], found["rows"], found["valid_rows"]) == (0, 2, 10, 8)
    track = make_track()  # of both clips
    mean = track.values[track.valid].astype(float).mean(0)
    np.testing.assert_allclose(found["dimensions"]["mean"], mean)
    assert found["nearest"] == [{"first": "a", "second": "b", "cosine": 1.0, "likely": True}]
    assert (
        json.loads(said("stats", "s.zarr", "--json", "--pairs", "0")[1])["sets"][0]["nearest"] == []
    )
    (folder / f"s.zarr/{SPEC.name}/a/valid/c/0").unlink()
    status, out = said("stats", "s.zarr")
    assert status == 1
    assert "left out: a: valid/c/0 is missing" in out
    assert main(["stats", "s.zarr", "--set", "clip-0"]) == 2
    assert f"the nearest is {SPEC.name!r}" in capsys.readouterr().err


def test_a_store_is_the_same_after_export_and_import(folder, said, capsys):
    assert said("export", "s.zarr", "o.h5") == (0, "export: 2 records of s.zarr in o.h5\n")
    status, out = said("import-h5", "o.h5", "back.zarr")
    assert status == 0
    assert "import-h5: 2 records written, 0 already there, 0 kept" in out
    assert content(folder / "back.zarr") == content(folder / "s.zarr")
    assert main(["export", "s.zarr", "p.h5", "--manifest", "m.jsonl"]) == 1
    assert "of clip 'c'; run extract-features" in capsys.readouterr().err
    assert not (folder / "p.h5").exists()
    assert main(["import-h5", "m.jsonl", "new.zarr"]) == 2
    assert not (folder / "new.zarr").exists()


COMMANDS = [
    ["status", "X", "m.jsonl"],
    ["why", "X", "a"],
    ["verify", "X"],
    ["gc", "X"],
    ["ls", "X"],
    ["info", "X", "a"],
    ["stats", "X"],
    ["export", "X", "o.h5"],
]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_a_path_that_is_no_store_is_wrong_input(folder, words, capsys):
    (folder / "text").write_text("no store")
    for path in ("none.zarr", "text", "."):
        assert main([path if word == "X" else word for word in words]) == 2
        error = capsys.readouterr().err
        assert error.startswith("vaflow: ")
        assert path in error


def test_repair_extracts_damaged_records_again(tmp_path, make_video, tiny_clip, said, capsys):
    clips = []
    for k in range(3):
        make_video(f"c{k}.mp4", time_s=np.arange(20) / 25, sound=tone(0.8, seed=k))
        clips.append(Clip(id=f"c{k}", video=f"c{k}.mp4", split="train"))
    write_manifest(tmp_path / "m.jsonl", clips)
    store = tmp_path / "s.zarr"
    keys = [
        f"manifest={tmp_path / 'm.jsonl'}",
        f"encoders={json.dumps([{'kind': 'clip', **tiny_clip}])}",
        "frames=whole",
    ]
    assert main(["run", "extract-features", f"store={store}", *keys]) == 0
    right = content(store)
    (name,) = [path.name for path in store.iterdir() if path.is_dir()]
    values = store / name / "c1" / "values" / "c" / "0" / "0"
    values.write_bytes(values.read_bytes()[:-1] + b"\0")
    (store / name / "zarr.json").unlink()
    shutil.copytree(store / name / "c0", store / name / "c0x")
    (store / name / "c0x" / "valid" / "c" / "0").unlink()  # a clip of no manifest
    (store / "zarr.json").write_text("{}")
    capsys.readouterr()
    status, out = said("verify", str(store), "--repair", *keys)
    assert status == 1
    assert out.count("is missing") == 1  # what cannot be extracted again is reported and left
    assert f"{name}/c0x/valid/c/0" in out
    shutil.rmtree(store / name / "c0x")
    assert said("verify", str(store))[0] == 0
    found = content(store)
    assert {k for k in right if right[k] != found[k]} == {f"{name}/c1/zarr.json"}  # its provenance
    assert json.loads(found[f"{name}/c1/zarr.json"])["attributes"]["provenance"]["reason"] == (
        "corrupt"
    )
    (tmp_path / "c2.mp4").write_text("no video any more")
    values.unlink()
    assert said("verify", str(store), "--repair", *keys)[0] == 1  # for c2, which is reported
    assert values.exists()
    assert said("verify", str(store))[0] == 0


def test_the_documentation_reads_a_store_with_zarr_alone(folder):
    page = (Path(__file__).parents[3] / "docs" / "store.md").read_text()
    code = page.split("```python\n")[1].split("```")[0]
    code = code.replace("data/demo/features.zarr", "s.zarr").replace("CLIP", "a")
    found: dict = {}
    exec(code, found)
    track = make_track()
    np.testing.assert_array_equal(found["values"], track.values)
    np.testing.assert_array_equal(found["time_s"], track.time_s)
    np.testing.assert_array_equal(found["valid"], track.valid)


def test_import_features_reports_what_it_wrote_and_what_it_left_out(folder, said, capsys):
    Path("f.csv").write_text("clip,time,x\na,0,1\nb,0,1\nb,0.5,2\n")
    words = ("import-features", "f.csv", "--manifest", "m.jsonl", "--kind", "mine")
    status, out = said(*words, "--modality", "audio", "s.zarr")
    name = out.splitlines()[1].split(": ")[1]
    assert name.startswith("mine-")
    assert (status, out) == (
        0,
        "  1 clips of the manifest have no such features yet: c; import their file, too, with the "
        "same options\n"
        f"import-features: {name}: 2 clips written, 0 already there; 3 rows of 1 numbers, "
        "in s.zarr\n",
    )
    found = json.loads(said(*words, "--modality", "audio", "s.zarr", "--json")[1])
    assert (found["feature_set"], found["present"]) == (name, ["a", "b"])
    Path("h.csv").write_text("clip,time,x,y\na,0,1,1\nb,0,1,1\nb,0.5,2,2\n")
    Path("g.csv").write_text("clip,time,x\na,0,1\nbb,0,1\n")
    status, out = said("import-features", "g.csv", "s.zarr", *words[2:], "--modality", "visual")
    assert status == 1
    assert "  left out: g.csv, clip 'bb': m.jsonl has no such clip; did you mean 'b'?\n" in out
    status, out = said(
        "import-features", "--drop", "x", "h.csv", *words[2:], "--modality=audio", "s.zarr"
    )
    assert (status, out.endswith("3 rows of 1 numbers, in s.zarr\n")) == (0, True)
    Path("g.csv").write_text("clip,time,x\na,0,nan\n")
    assert main(["import-features", "g.csv", "s.zarr", *words[2:], "--modality", "audio"]) == 2
    assert "g.csv, clip 'a', line 2, column 'x': nan; every" in capsys.readouterr().err
