"""`vaflow runs` lists trained runs, and `vaflow compare` says how they differ."""

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from features.manifest.manifest import read_manifest, write_manifest
from flows.command.main import main
from models.heads.dspl import DsplConfig
from models.runs.folder import (
    CONFIG,
    INPUTS,
    METRICS,
    PROVENANCE,
    SCORES,
    TRAINING,
    VAL_PREDICTIONS,
)
from models.stages.score_head import score_head
from models.stages.train_head import train_head
from models.training import loop
from models.training.config import TrainConfig
from models.training.loss_config import LossConfig
from tests.helpers.synthetic import Planted, plant

pytestmark = pytest.mark.slow

HEAD = DsplConfig(width=8, prompts=None)  # without texts, which take longest to load
TRAIN = TrainConfig(
    epochs=2,
    window=40,
    stride=40,
    batch_size=4,
    learning_rate=1e-2,
    threads=1,
    loss=LossConfig(region_weight=0),
)
SOUND = {"head.fusion": "audio"}
ENDS = [f"{name}_{end}" for name in ("valence", "arousal", "mean") for end in ("low", "high")]


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Planted:
    return plant(tmp_path_factory.mktemp("planted"), ("train",) * 3 + ("val",) * 3)


def train(planted: Planted, run: Path, head: DsplConfig = HEAD, **keys) -> None:
    train_head(
        manifest=planted.manifest,
        store=planted.store,
        run=run,
        head=head,
        train=TRAIN.model_copy(update=keys),
    )


@pytest.fixture(scope="module")
def runs(planted, tmp_path_factory) -> Path:
    """Three runs, of which `first` is scored, and a variant with two seeds."""
    folder = tmp_path_factory.mktemp("runs")
    train(planted, folder / "first")
    shutil.copytree(folder / "first", folder / "again")
    train(planted, folder / "sound", HEAD.model_copy(update={"fusion": "audio"}))
    for seed in (0, 1):
        train(planted, folder / "ablation" / "slow" / f"seed-{seed}", seed=seed, learning_rate=1e-4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("models.stages.report.write_report", lambda *_: None)
        score_head(run=folder / "first")
    return folder


@pytest.fixture
def spoilt(runs, tmp_path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(runs, tmp_path / "runs"))


@pytest.fixture
def said(capsys):
    """Run a command; its exit status, and what it printed."""

    def run(*words: object) -> tuple[int, str]:
        status = main([str(word) for word in words])
        return status, capsys.readouterr().out

    return run


def listed(said, *words: object, status: int = 0) -> dict[str, dict]:
    """The runs in the JSON output by name, in its order."""
    found, out = said("runs", *words, "--json")
    assert found == status
    return {each["name"]: each for each in json.loads(out)["runs"]}


def test_runs_lists_scores_epochs_settings_and_code(runs, said):
    found = listed(said, runs)
    assert found.keys() == {"first", "again", "sound", "ablation/slow"}
    first, again = found["first"], found["again"]
    score = json.loads((runs / "first" / SCORES).read_text())["val"]
    assert first["source"] == "scores"
    assert [first[f"ccc_{end}"] for end in ENDS] == [score[f"ccc_{end}"] for end in ENDS]
    last = json.loads((runs / "again" / METRICS).read_text().splitlines()[-1])
    assert again["source"] == "training"
    assert again["ccc_mean"] == last["ccc_mean"] == pytest.approx(score["ccc_mean"], abs=1e-9)
    assert again["ccc_mean_low"] is None
    assert {each["state"] for each in found.values()} == {"finished"}
    assert {each["epochs"] for each in found.values()} == {2}
    assert all(each["is_same_code"] for each in found.values())
    assert {name: each["changed"] for name, each in found.items()} == {
        "first": {},
        "again": {},
        "sound": SOUND,
        "ablation/slow": {"train.learning_rate": 1e-4},
    }


def test_the_trainings_of_a_variant_are_one_line_with_an_interval_over_them(runs, said):
    mean = listed(said, runs)["ablation/slow"]
    each = listed(said, runs, "--each-training")
    both = [each[f"ablation/slow/seed-{seed}"] for seed in (0, 1)]
    assert mean["ccc_mean"] == pytest.approx(sum(run["ccc_mean"] for run in both) / 2)
    # half the interval of two values: t(0.975, 1 degree) * s / sqrt(2) = 12.706 * |a - b| / 2
    half = 12.7062 * abs(both[0]["ccc_mean"] - both[1]["ccc_mean"]) / 2
    assert mean["ccc_mean_high"] - mean["ccc_mean"] == pytest.approx(half, rel=1e-4)
    assert mean["changed"] == {"train.learning_rate": 1e-4}  # and no seed
    assert both[1]["changed"] == {"train.learning_rate": 1e-4, "train.seed": 1}
    assert mean["trainings"] == [run["path"] for run in both]


def test_runs_are_sorted_by_any_column_or_key(runs, said):
    def order(*words: str) -> list[str]:
        return [*listed(said, runs, *words)]

    scores = {name: each["ccc_mean"] for name, each in listed(said, runs).items()}
    best_first = sorted(scores, key=lambda name: (-scores[name], name))
    assert order() == order("--sort", "mean") == best_first
    assert order("--sort", "name") == ["ablation/slow", "again", "first", "sound"]
    assert order("--sort", "name", "--reverse")[0] == "sound"
    assert order("--sort", "train.learning_rate")[0] == "ablation/slow"
    assert order("--sort", "train.seed")[-1] == "ablation/slow"  # has none
    assert said("runs", runs, "--sort", "head.widht")[0] == 2


def test_keys_are_those_that_differ_from_the_reference(runs, said):
    found = listed(said, runs, "--reference", "sound")
    assert found["sound"]["changed"] == {}
    assert found["first"]["changed"] == {"head.fusion": "attention_gate"}
    assert listed(said, runs, "--reference", runs / "sound") == found
    assert said("runs", runs, "--reference", "nobody")[0] == 2


def test_csv_has_a_column_for_each_changed_key(runs, said):
    status, out = said("runs", runs, "--csv")
    rows = {row["name"]: row for row in csv.DictReader(io.StringIO(out))}
    assert status == 0
    assert rows["sound"]["head.fusion"] == "audio"
    assert rows["first"]["head.fusion"] == "attention_gate"
    assert rows["ablation/slow"]["train.learning_rate"] == "0.0001"
    assert float(rows["first"]["ccc_mean_low"]) < float(rows["first"]["ccc_mean_high"])


def test_the_table_marks_what_is_not_scored_and_what_other_code_made(spoilt, said):
    provenance = spoilt / "sound" / PROVENANCE
    made_by = json.loads(provenance.read_text())
    made_by["code"]["models/nn/fusion.py"] = "0" * 64
    provenance.write_text(json.dumps(made_by | {"git_commit": "1234567890+changes"}))
    status, out = said("runs", spoilt)
    lines = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert status == 0
    assert "*" not in lines["first"]
    assert "*" in lines["again"]
    assert "head.fusion=audio" in lines["sound"]
    assert "1234567+" in lines["sound"]
    assert "! " in lines["sound"]
    assert "x2" in lines["ablation/slow"]
    assert "* not scored: val CCC of the kept epoch" in out


def test_a_training_that_was_killed_is_listed_with_its_epoch(planted, tmp_path, said, monkeypatch):
    class Killed(Exception):
        """Instead of SIGKILL."""

    run, steps, step = tmp_path / "run", [0], loop.step

    def counted(*arguments, **keys):
        steps[0] += 1
        if (run / TRAINING / METRICS).exists():  # in the second epoch
            raise Killed
        return step(*arguments, **keys)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "step", counted)
        with pytest.raises(Killed):
            train(planted, run, HEAD.model_copy(update={"dropout": 0.4}))
    found = listed(said, tmp_path, "--reference", "run")["run"]
    assert (found["state"], found["epochs"], found["max_epochs"]) == ("unfinished", 1, 2)
    assert found["source"] == "training"
    status, out = said("runs", tmp_path)
    assert status == 0
    assert "1/2" in out
    assert "unfinished: run: epoch 1 of 2 is reached; the same command goes on from there" in out
    assert said("compare", run, run)[0] == 2
    train(planted, run, HEAD.model_copy(update={"dropout": 0.4}))
    assert listed(said, tmp_path)["run"]["state"] == "finished"


def test_what_is_damaged_is_named_and_does_not_end_the_listing(spoilt, said):
    (spoilt / "first" / SCORES).write_text("{")
    (spoilt / "again" / METRICS).write_text('{"index": 0}\n')
    (spoilt / "sound" / CONFIG).write_text("head: [")
    (spoilt / "ablation" / "slow" / "seed-0" / PROVENANCE).write_bytes(b"\xff")
    (spoilt / "ablation" / "slow" / "seed-1" / CONFIG).unlink()
    found = listed(said, spoilt, status=1)
    assert {each["state"] for each in found.values()} == {"damaged"}
    assert "config.yaml is missing" in found["ablation/slow"]["note"]
    assert found["first"]["changed"] == {}  # whose config can be read, as no other
    assert "is not JSON" in found["first"]["note"]
    assert found["first"]["ccc_mean"] is not None  # of the training
    assert "is damaged" in found["again"]["note"]
    assert "is not a config of train-head" in found["sound"]["note"]
    status, out = said("runs", spoilt)
    assert status == 1
    assert "damaged: sound: " in out


def test_a_run_that_is_not_scored_has_the_ccc_of_the_epoch_that_was_kept(spoilt, said):
    run = spoilt / "again"
    config = yaml.safe_load((run / CONFIG).read_text())
    config["train"]["select"] = "val"
    (run / CONFIG).write_text(yaml.safe_dump(config))
    epochs = [json.loads(line) for line in (run / METRICS).read_text().splitlines()]
    epochs[0] |= {"ccc_mean": 0.9, "seconds": 1.5, "new": [1]}  # as a later version may write
    epochs[1] |= {"ccc_mean": 0.4, "seconds": 2.0}
    (run / METRICS).write_text("".join(json.dumps(epoch) + "\n" for epoch in epochs))
    found = listed(said, spoilt)["again"]
    assert (found["ccc_mean"], found["seconds"]) == (0.9, 3.5)
    assert found["changed"] == {"train.select": "val"}


def test_a_store_is_not_searched_for_runs(spoilt, said):
    (spoilt / "ablation" / "zarr.json").touch()
    assert "ablation/slow" not in listed(said, spoilt)


def test_names_of_foreign_folders_are_escaped(runs, tmp_path, said):
    shutil.copytree(runs / "first", tmp_path / "a\x1b[31m[bold]b")
    status, out = said("runs", tmp_path)
    assert status == 0
    assert r"a\x1b[31m[bold]b" in out
    assert "\x1b" not in out


def test_an_ensemble_and_its_members_are_listed(runs, tmp_path, said):
    folder = tmp_path / "folds"
    for name in ("fold-1", "fold-2"):
        shutil.copytree(runs / "first", folder / name)
    config = yaml.safe_load((runs / "first" / CONFIG).read_text())
    (folder / CONFIG).write_text(yaml.safe_dump(config | {"folds": 3, "over": "train"}))
    shutil.copy(runs / "first" / PROVENANCE, folder)
    (folder / INPUTS).symlink_to(runs, target_is_directory=True)  # is not followed
    found = listed(said, tmp_path)
    assert found.keys() == {"folds", "folds/fold-1", "folds/fold-2"}
    assert found["folds"]["kind"] == "ensemble"
    assert found["folds"]["note"].startswith("2 of 3 members are trained")
    assert found["folds/fold-1"]["kind"] == "member"


def test_a_folder_without_runs_and_one_that_is_missing(tmp_path, said):
    assert said("runs", tmp_path) == (0, f"runs: there is no run in {tmp_path} or below it\n")
    assert listed(said, tmp_path) == {}
    assert said("runs", tmp_path / "none")[0] == 2


def test_listing_imports_no_torch(runs):
    script = (
        "import sys; from flows.command.main import main; "
        f"main(['runs', {str(runs)!r}]); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], stdout=subprocess.DEVNULL).returncode == 0


def compared(said, *words: object) -> dict:
    status, out = said("compare", *words, "--json")
    assert status == 0
    return json.loads(out)


def test_two_equal_runs_differ_by_nothing(runs, said):
    found = compared(said, runs / "first", runs / "again")
    zero = {"value": 0.0, "low": 0.0, "high": 0.0, "bca": [0.0, 0.0], "p_value": 1.0}
    first, again = found["runs"]
    assert first["difference"] is None
    assert again["difference"] == dict.fromkeys(("valence", "arousal", "mean"), zero)
    assert found["settings"] == []
    assert (found["n_clips"], found["n_subjects"]) == (3, 3)


def test_compare_scores_as_score_head_does_and_keeps_the_predictions(runs, said):
    first = compared(said, runs / "first", runs / "sound")["runs"][0]
    score = json.loads((runs / "first" / SCORES).read_text())["val"]
    names = [f"ccc_{end}" for end in ("valence", "arousal", "mean", *ENDS)]
    assert [first[name] for name in names] == pytest.approx([score[name] for name in names])
    assert (runs / "first" / VAL_PREDICTIONS).is_file()


def test_the_difference_is_the_run_minus_the_first_one(runs, said, tmp_path):
    page = tmp_path / "out.html"
    status, out = said("compare", runs / "first", runs / "sound", "-o", page)
    found = compared(said, runs / "first", runs / "sound")
    first, sound = found["runs"]
    difference = sound["difference"]["mean"]
    assert difference["value"] == pytest.approx(sound["ccc_mean"] - first["ccc_mean"])
    assert difference["high"] < 0  # the sound says nothing about valence
    assert {row["key"]: row["values"][1] for row in found["settings"]} == SOUND
    assert status == 0
    assert f"{difference['value']:+.3f}" in out
    assert "attention_gate" in out
    text = page.read_text()
    for shown in ("head.fusion", "attention_gate", "Learning curves", f"{difference['low']:+.3f}"):
        assert shown in text
    assert text.count("<svg") == 2
    assert "http" not in text.replace("http-equiv", "")


def test_the_trainings_of_a_variant_are_averaged(runs, said):
    found = compared(said, runs / "first", runs / "ablation" / "slow")
    assert [run["n_trainings"] for run in found["runs"]] == [1, 2]
    assert [row["key"] for row in found["settings"]] == ["train.learning_rate"]
    assert any("usually scores higher" in note for note in found["notes"])


def test_runs_on_other_clips_are_compared_on_those_that_both_have(planted, runs, tmp_path, said):
    manifest = read_manifest(planted.manifest)
    root = planted.manifest.parent
    few, other = root / "few.jsonl", root / "other.jsonl"
    write_manifest(few, [clip for clip in manifest.clips if clip.id != "val-5"])
    run = Path(shutil.copytree(runs / "first", tmp_path / "few"))
    config = yaml.safe_load((run / CONFIG).read_text())
    (run / CONFIG).write_text(yaml.safe_dump(config | {"manifest": str(few)}))
    found = compared(said, runs / "first", run)
    assert found["n_clips"] == 2
    assert any("compared on the 2 val clips that all" in note for note in found["notes"])
    assert compared(said, runs / "first", run, "--manifest", planted.manifest)["n_clips"] == 3

    swapped = {"val-3": "val-4.txt", "val-4": "val-3.txt"}
    write_manifest(
        other,
        [
            clip.model_copy(update={"labels": swapped.get(clip.id, clip.labels)})
            for clip in manifest.clips
        ],
    )
    (run / CONFIG).write_text(yaml.safe_dump(config | {"manifest": str(other)}))
    assert said("compare", runs / "first", run)[0] == 2

    ids = {"train": "val", "val": "train"}
    write_manifest(
        other,
        [clip.model_copy(update={"split": ids[clip.split or ""]}) for clip in manifest.clips],
    )
    (run / CONFIG).write_text(yaml.safe_dump(config | {"manifest": str(other)}))
    assert said("compare", runs / "first", run)[0] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("first",), "needs two runs or more"),
        (("first", "nowhere"), "there is no folder"),
        (("first", "ablation"), "is not the folder of a run; below it are slow"),
        (("first", "again", "-o", "no/folder.html"), "cannot hold the page"),
    ],
)
def test_errors_of_compare_say_what_to_do(runs, said, capsys, monkeypatch, words, message):
    monkeypatch.chdir(runs)
    assert main(["compare", *words]) == 2
    assert message in capsys.readouterr().err
