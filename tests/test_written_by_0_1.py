"""A store, run folders and an ensemble that version 0.1.0 wrote are read by this version.

`tests/data/vaflow-0.1.tar.xz` holds what the script in it, `make_old.py`, wrote with 0.1.0.
"""

import csv
import json
import tarfile
from pathlib import Path

import pytest

from flows.command.main import main

pytestmark = pytest.mark.slow

ARCHIVE = Path(__file__).parent / "data" / "vaflow-0.1.tar.xz"
DIGITS = 1e-5  # processors add in other orders


@pytest.fixture(scope="module")
def old(tmp_path_factory) -> Path:
    """The folder with everything that version 0.1.0 wrote."""
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="tar")
    return folder


def states(folder: Path, capsys) -> dict[str, set[str]]:
    """The states of the clips of `extracted`, by clip."""
    main(
        [
            "status",
            f"{folder}/extracted/features.zarr",
            f"{folder}/extracted/manifest.jsonl",
            "--json",
        ]
    )
    by_clip: dict[str, set[str]] = {}
    for each in json.loads(capsys.readouterr().out)["clips"]:
        by_clip.setdefault(each["clip"], set()).add(each["state"])
    return by_clip


def predictions(run: Path) -> list[list[float]]:
    with (run / "predictions.csv").open() as file:
        return [[float(v) for v in list(row.values())[1:]] for row in csv.DictReader(file)]


def test_a_store_is_complete_also_beside_sets_of_the_later_weights(old, capsys, monkeypatch):
    monkeypatch.chdir(old)
    for expected in ("4 extracted, 0 already there", "0 extracted, 4 already there"):
        before = states(old, capsys)
        assert before.pop("broken") <= {"quarantined", "missing"}  # missing: by another decoder
        assert len(before) == 2
        assert all(found == {"complete"} for found in before.values())
        main(["run", "extract-features", "-c", "demo.yaml"])  # with the small encoders of 0.2
        assert expected in "".join(capsys.readouterr())


def test_every_byte_of_a_store_is_verified(old, capsys):
    for store in ("extracted", "trained"):
        assert main(["verify", f"{old}/{store}/features.zarr"]) == 0


@pytest.mark.parametrize("name", ["run", "released", "ensemble"])
def test_a_trained_head_predicts_what_it_predicted(old, name, capsys):
    run = old / "trained" / name
    rows, scores = predictions(run), json.loads((run / "scores.json").read_text())["val"]
    given = [f"manifest={old}/trained/manifest.jsonl", f"store={old}/trained/features.zarr"]
    assert main(["run", "score-head", f"run={run}", *given, "force=true"]) == 0
    assert predictions(run) == [pytest.approx(row, abs=DIGITS) for row in rows]
    again = json.loads((run / "scores.json").read_text())["val"]
    assert {key: again[key] for key in scores} == pytest.approx(scores, abs=DIGITS)


@pytest.mark.parametrize(
    ("name", "stage"), [("released", "train-head"), ("ensemble", "train-ensemble")]
)
def test_a_run_s_own_config_trains_nothing_again(old, name, stage, capsys):
    run = old / "trained" / name
    given = [f"manifest={old}/trained/manifest.jsonl", f"store={old}/trained/features.zarr"]
    assert main(["run", stage, "-c", f"{run}/config.yaml", f"run={run}", *given]) == 0
    assert "nothing to train" in "".join(capsys.readouterr())


def test_runs_are_listed_with_what_they_recorded(old, capsys):
    assert main(["runs", str(old / "trained"), "--json"]) == 0
    runs = {each["name"]: each for each in json.loads(capsys.readouterr().out)["runs"]}
    assert runs.keys() == {"run", "released", "ensemble", "ensemble/fold-1", "ensemble/fold-2"}
    scores = json.loads((old / "trained" / "run" / "scores.json").read_text())["val"]
    assert runs["run"]["ccc_mean_low"] == scores["ccc_mean_low"]
    assert runs["run"]["changed"]["train.loss.sigma"] == 0.4  # was head.sigma
    assert {each["state"] for each in runs.values()} == {"finished"}
    assert {each["is_same_code"] for each in runs.values()} == {None}
