import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from importlib.metadata import version

import numpy as np
import pytest

from features.clip import Clip
from features.manifest.manifest import read_manifest, write_manifest
from features.store.feature_store import FeatureStore
from flows.__main__ import ended_by
from flows.command.main import main
from tests.helpers.small_media import tone

pytestmark = pytest.mark.slow

HEAVY = (
    "torch",
    "zarr",
    "prefect",
    "transformers",
    "open_clip",
    "av",
    "numpy",
    "pydantic",
    "matplotlib",
    "dask",
)


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip().splitlines()[-1]


def test_help_loads_none_of_the_heavy_libraries():
    code = (
        "import sys\nfrom flows.command.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    assert python(code) == "[]"


def test_a_misspelt_key_or_stage_is_answered_without_loading_a_stage():
    wrong = [
        ["train-head", "manifst=x"],
        ["train", "manifest=x"],
        ["train-head", "train.epohcs=3"],
        ["train-head", "head.prompts.textx=mine.yaml"],
        ["extract-features", "limits.steams=2"],
    ]
    code = (
        "import sys\nfrom flows.command.main import main\n"
        f"for words in {wrong}: assert main(['run', *words]) == 2, words\n"
        f"print([name for name in {HEAVY} if name in sys.modules and name != 'pydantic'])"
    )
    assert python(code) == "[]"


def test_commands_that_read_a_store_load_no_torch(tmp_path):
    FeatureStore.open(tmp_path / "s.zarr", create=True)
    code = (
        "import sys\nfrom flows.command.main import main\n"
        f"for command in ('verify', 'stats'): main([command, '{tmp_path}/s.zarr'])\n"
        "print([name for name in ('torch', 'prefect', 'matplotlib') if name in sys.modules])"
    )
    assert python(code) == "[]"


def test_a_stage_that_trains_or_scores_loads_no_library_of_an_encoder(tmp_path):
    code = (
        "import sys\nfrom flows.command.main import main\n"
        f"assert main(['run', 'train-head', 'manifest={tmp_path}/none', 'store=s', 'run=r']) == 2\n"
        "libraries = ('transformers', 'open_clip', 'torchvision', 'sklearn', 'prefect')\n"
        "print([name for name in libraries if name in sys.modules])"
    )
    assert python(code) == "[]"


def test_without_a_command_the_help_is_shown(capsys):
    assert main([]) == 2
    assert "extract-features" in capsys.readouterr().out


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"vaflow {version('vaflow')}\n"


def test_overrides_may_precede_and_follow_the_config(tmp_path, capsys):
    (tmp_path / "e.yaml").write_text("store: s")
    for words in (["batch_size=x", "-c"], ["-c"]):
        arguments = ["run", "extract-features", *words, str(tmp_path / "e.yaml"), "reeders=2"]
        assert main(arguments) == 2
        assert (
            "unknown key 'reeders'; the nearest valid one is 'readers'" in capsys.readouterr().err
        )
    with pytest.raises(SystemExit):
        main(["run", "extract-features", "-c", "e.yaml", "--farce"])


@pytest.fixture
def set_up(tmp_path, make_video, tiny_clip, tiny_ast) -> list[str]:
    """Three good clips, and the arguments that extract them."""
    clips = []
    for k in range(3):
        make_video(f"c{k}.mp4", time_s=np.arange(30) / 25, sound=tone(1.2, seed=k))
        clips.append(Clip(id=f"c{k}", video=f"c{k}.mp4", split="train"))
    write_manifest(tmp_path / "m.jsonl", clips)
    encoders = [{"kind": "clip", **tiny_clip}, {"kind": "ast", "model": tiny_ast, "hop_s": 0.64}]
    return [
        "run",
        "extract-features",
        f"manifest={tmp_path / 'm.jsonl'}",
        f"store={tmp_path / 's.zarr'}",
        f"encoders={json.dumps(encoders)}",
        "frames=whole",  # they show colours
    ]


def test_extract_then_status_then_nothing_to_do(set_up, tmp_path, capsys):
    assert main(set_up) == 0
    assert "3 clips x 2 feature sets: 6 extracted, 0 already" in capsys.readouterr().out
    assert main(set_up) == 0
    assert "nothing to encode" in capsys.readouterr().out
    paths = [str(tmp_path / "s.zarr"), str(tmp_path / "m.jsonl")]
    assert main(["status", *paths, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["counts"] == {"complete": 6}
    assert set(found["clips"][0]) == {"clip", "spec", "state", "reason"}
    write_manifest(
        tmp_path / "m.jsonl",
        [*read_manifest(tmp_path / "m.jsonl").clips, Clip(id="new", video="c0.mp4")],
    )
    assert main(["status", *paths]) == 1
    assert "missing: new" in capsys.readouterr().out


def test_a_broken_clip_is_exit_1_and_the_rest_stays(set_up, tmp_path, capsys):
    (tmp_path / "c1.mp4").write_text("no video")
    assert main(set_up) == 1
    error = capsys.readouterr().err
    assert "4 extracted, 0 already there, 0 failed, 2 quarantined" in error
    assert "c1 (clip-" in error
    assert "cannot be decoded" in error
    assert main(["status", str(tmp_path / "s.zarr"), str(tmp_path / "m.jsonl")]) == 1


BAD = [
    (["run", "extract-featurs"], "did you mean 'extract-features'"),
    (["run", "extract-features", "manifset=x"], "the nearest valid one is 'manifest'"),
    (["run", "extract-features", "-c", "none.yaml"], "cannot be read"),
    (["run", "train-head"], "the key 'manifest' is missing"),
    (["run", "score-head", "run=none"], "there is no trained head at none"),
    (["index", "affwild2", "none", "-o", "m.jsonl"], "there is no folder none"),
    (["index", "affwild3", ".", "-o", "m.jsonl"], "the nearest is 'affwild2'"),
    (["status", "none.zarr", "none.jsonl"], "there is no manifest at none.jsonl"),
    (["render", "set", "--clips", "0", "--seconds", "2", "--seed", "1"], "clips"),
    (["render", "set", "--clips", "4", "--seconds", "2", "--seed", "-1"], "seed"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=lambda value: str(value)[:40])
def test_wrong_input_is_exit_2_with_one_line_that_names_it(
    arguments, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("vaflow: ")
    assert "Traceback" not in error
    assert not list(tmp_path.iterdir())  # nothing was created


def test_a_dry_run_prints_the_plan_and_writes_nothing(set_up, tmp_path, capsys):
    for dry in ("--dry-run", "dry_run=true"):
        assert main([*set_up, dry]) == 0
        said = capsys.readouterr().out
        assert said.count("3 to extract (3 new)\n  90 frames, 0.00 hours of media; how long") == 2
        assert said.endswith("dry run: nothing was written\n")
    assert not list(tmp_path.glob("s.zarr*"))
    assert main(set_up) == 0
    assert "(6 new)" in capsys.readouterr().out
    assert main(["run", "train-head", "--dry-run", *set_up[2:4], "run=r"]) == 2
    assert "'dry_run' is a key of other stages" in capsys.readouterr().err


def test_selected_clips_are_extracted_again(set_up, capsys):
    assert main(set_up) == 0
    assert main([*set_up, "--only", "c1", "c0", "--force"]) == 0
    assert "2 clips x 2 feature sets: 4 extracted, 0 already there" in capsys.readouterr().out
    assert main([*set_up, "--failed"]) == 0
    assert "no clip is in quarantine; nothing to do" in capsys.readouterr().out
    assert main([*set_up, "--only", "c9"]) == 2
    assert "only: the manifest has no clip 'c9'; did you mean" in capsys.readouterr().err
    assert main([*set_up, "only=[7]"]) == 2  # a name that YAML takes for a number
    assert "the manifest has no clip '7'" in capsys.readouterr().err
    assert main([*set_up[:2], "--only", "c1", *set_up[2:]]) == 0  # keys after ids


LIST_LOADED = """
import json, pathlib, sys
from flows.__main__ import run
path = pathlib.Path(sys.argv.pop(1))
status = run()
path.write_text(json.dumps(list(sys.modules)))
sys.exit(status)
"""


def test_sigterm_has_its_own_exit_status_and_no_clip_is_left_half_done(set_up, tmp_path):
    """In the same process, which is expensive: an extraction loads neither Prefect nor plots."""
    clips = [Clip(id=f"d{k:03d}", video="c0.mp4") for k in range(300)]
    write_manifest(tmp_path / "m.jsonl", clips)
    child = subprocess.Popen(
        [sys.executable, "-c", LIST_LOADED, str(tmp_path / "loaded.json"), *set_up],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not list(tmp_path.glob("s.zarr/clip-*/d*/zarr.json")):
        assert child.poll() is None
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGTERM)
    _, error = child.communicate(timeout=120)
    assert child.returncode == 143
    assert error == (
        "WARNING: SIGTERM: clips that have begun are finished; a second one ends at once\n"
        "terminated; what is done is kept, the rest resumes\n"
    )
    in_sets = Counter(path.parent.name for path in tmp_path.glob("s.zarr/*/d*/zarr.json"))
    assert set(in_sets.values()) == {2}  # both sets of each clip
    assert 0 < len(in_sets) < 300
    assert not list((tmp_path / "s.zarr.work" / "staging").iterdir())
    assert not list((tmp_path / "s.zarr.work" / "locks").iterdir())
    loaded = set(json.loads((tmp_path / "loaded.json").read_text()))
    assert "torch" in loaded
    assert not loaded & {"prefect", "matplotlib"}


def test_of_a_live_stream_nothing_is_said_to_resume(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["vaflow", "predict", "run", "videos"])
    assert ended_by(signal.SIGTERM) == "terminated; what is done is kept, the rest resumes"
    monkeypatch.setattr(sys, "argv", ["vaflow", "predict", "run", "--live", "a.mp4"])
    assert ended_by(signal.SIGINT) == "interrupted"


def test_index_writes_a_manifest_and_reports(tmp_path, make_video, capsys):
    make_video("set/v/3.mp4", time_s=np.arange(6) / 25)
    folder = tmp_path / "set" / "VA_Estimation_Challenge" / "Train_Set"
    folder.mkdir(parents=True)
    (folder / "3.txt").write_text("valence,arousal\n" + "0.1,0.2\n" * 7)
    output = str(tmp_path / "m.jsonl")
    assert main(["index", "affwild2", str(tmp_path / "set"), "-o", output]) == 0
    said = capsys.readouterr().out
    assert "3: 7 rows, 6 frames (+1), no sound" in said
    assert "index: 1 clips in" in said
    (folder / "4.txt").write_text("valence,arousal\n0.1,0.2\n")
    assert main(["index", "affwild2", str(tmp_path / "set"), "-o", output, "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["left_out"] == {"4": "it is annotated, but its video is missing"}
    assert [clip.id for clip in read_manifest(tmp_path / "m.jsonl").clips] == ["3"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["max_length_mismach=3"], "'max_length_mismach'; the nearest valid one is 'max_length_m"),
        (["max_length_mismatch=-1"], "max_length_mismatch = -1: Input should be greater"),
        (["max_length_mismatch"], "'max_length_mismatch' is no override"),
        (["a=[1"], "a=[1 is not YAML: "),
        (["a=1", "a.b=2"], "a.b: 'a' holds 1, which has no keys"),
        (["-c", "list.yaml"], "the config list.yaml must hold keys and values"),
    ],
)
def test_a_wrong_key_of_a_data_set_is_named(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.yaml").write_text("[1]")
    assert main(["index", "affwild2", ".", "-o", "m.jsonl", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_table_of_labels_becomes_a_manifest_with_labels_beside_it(tmp_path, make_video, capsys):
    make_video("v/a.mp4", time_s=np.arange(10) / 25)
    (tmp_path / "l.csv").write_text("clip,t,valence,arousal\na,0,7,1\na,0.2,4,1\n")
    words = [
        str(tmp_path / "l.csv"),
        "--media",
        str(tmp_path / "v"),
        "columns.time=t",
        "scale=[1,7]",
    ]
    assert main(["index", "table", *words, "-o", str(tmp_path / "v" / "m.jsonl")]) == 0
    assert "index: 1 clips in " in capsys.readouterr().out
    text = (tmp_path / "v" / "m.labels" / "a.csv").read_text()
    assert text == "time_s,valence,arousal\n0.0,1.0,-1.0\n0.2,0.0,-1.0\n"
    [clip] = read_manifest(tmp_path / "v" / "m.jsonl").clips
    assert (clip.video, clip.labels) == ("a.mp4", "m.labels/a.csv")
