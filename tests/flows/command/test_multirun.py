import csv
import re

import pytest

from flows.command.main import main
from flows.command.multirun import choices_of, combinations
from models.runs.folder import HEAD_FILE
from models.stages import trials
from tests.helpers.synthetic import plant

KEYS = ["train.epochs=1", "train.window=40", "train.stride=40", "train.threads=1", "head.width=8"]


@pytest.mark.parametrize(
    ("override", "choices"),
    [
        ("train.loss.sigma=0.2,0.3", ["0.2", "0.3"]),
        ("head.skip_spans=[5,10]", ["[5,10]"]),
        ("head.skip_spans=[5],[5,10]", ["[5]", "[5,10]"]),
        ("head.prompts={kind: fixed, texts: a},null", ["{kind: fixed, texts: a}", "null"]),
        ("train.unlabelled='a,b',c", ["'a,b'", "c"]),
        ("head.prompts={texts: ']'},null", ["{texts: ']'}", "null"]),
        ("run=a,b", ["a,b"]),
        ("streams={a: b, c: d}", ["{a: b, c: d}"]),
        ("head.dropout=", [""]),
    ],
)
def test_values_are_split_at_the_commas_outside_of_brackets_and_quotes(override, choices):
    assert choices_of(override) == choices


def test_every_combination_has_a_folder_named_by_its_own_values():
    found = combinations(["train.seed=0,1", "run=r", "head.temporal=gru,tcn"])
    assert [folder for folder, _, _ in found] == [
        "train.seed=0,head.temporal=gru",
        "train.seed=0,head.temporal=tcn",
        "train.seed=1,head.temporal=gru",
        "train.seed=1,head.temporal=tcn",
    ]
    assert found[1][1] == {"train.seed": "0", "head.temporal": "tcn"}
    assert found[1][2] == ["train.seed=0", "run=r", "head.temporal=tcn"]


def test_folders_of_values_that_are_no_names_differ():
    texts = "[a],../a,{a: 1},a/../../b," + "x" * 300
    folders = [folder for folder, _, _ in combinations([f"head.prompts={texts}"])]
    assert len({*folders}) == 5
    assert all("/" not in folder and len(folder) < 200 for folder in folders)


def test_a_value_twice_is_one_run():
    assert len(combinations(["train.seed=0,0,1"])) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train.loss.sigma=0.2,0.3"], "several values: .* add --multirun"),
        (["train.seed=1", "-m"], "no key inside head or train has several"),
        (["train.seed=1,2", "train.seed=3,4", "-m"], "'train.seed' is given twice"),
        (["train.seed=1,", "-m"], "'train.seed' has an empty value"),
        (["train.seed=1,x", "-m"], "train.seed = 'x'"),
        (["train.seed=1,2", "-m", "--force"], "delete the folders"),
        (["train.seed=1,2", "-m", "--via", "prefect"], "--multirun is for train-head in this proc"),
        (["train.seed=1", "--workers", "2"], "--workers is for --multirun"),
    ],
)
def test_what_is_no_grid_is_answered(capsys, words, message):
    assert main(["run", "train-head", "manifest=m", "store=s", "run=r", *words]) == 2
    assert re.search(message, " ".join(capsys.readouterr().err.split()))


def test_other_stages_have_no_grid(capsys):
    assert main(["run", "ablate", "-m", "manifest=m", "store=s", "run=r", "train.seed=1,2"]) == 2
    assert "--multirun is for train-head" in capsys.readouterr().err


@pytest.mark.slow
def test_a_grid_is_trained_compared_and_not_trained_again(tmp_path, monkeypatch, capsys):
    def in_turn(function, items, *_):
        return map(function, items)

    monkeypatch.setattr(trials, "map_in_processes", in_turn)
    planted = plant(tmp_path, ("train", "train", "val", "val"))
    run = tmp_path / "grid"
    command = ["run", "train-head", f"manifest={planted.manifest}", f"store={planted.store}"]
    command += [f"run={run}", *KEYS, "train.learning_rate=0.03,0.0001", "--multirun"]

    assert main(command) == 0

    folders = ["train.learning_rate=0.0001", "train.learning_rate=0.03"]
    assert sorted(path.parent.name for path in run.glob(f"*/{HEAD_FILE}")) == folders
    with (run / "grid.csv").open() as file:
        rows = {row["trial"]: row for row in csv.DictReader(file)}
    first, second = (rows[name] for name in reversed(folders))
    assert float(first["score"]) > float(second["score"])
    assert float(first["difference"]) == 0 > float(second["difference"])
    assert first["train.learning_rate"] == "0.03"
    assert "2 heads trained, 0 already there" in capsys.readouterr().out
    before = {path: path.read_bytes() for path in run.glob("grid.*")}

    assert main(command) == 0

    assert "0 heads trained, 2 already there" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in run.glob("grid.*")} == before
