"""Sweeps and grids on planted features."""

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from features.errors import Incomplete, InputError
from features.system.locks import try_lock
from flows.keys.settings import settings
from flows.messages import describe
from flows.stages import raise_if_incomplete
from models.heads.dspl import DsplConfig
from models.regions.prompts import FixedPrompts
from models.runs.folder import HEAD_FILE, LAST, METRICS, TRAINING
from models.stages import trials
from models.stages.sweep import BEST, LOCK, Sweep, sweep
from models.stages.train_head import train_head
from models.training.config import TrainConfig
from tests.helpers.synthetic import Planted, plant

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).parents[3]
HEAD = DsplConfig(width=8, n_heads=2, dropout=0, prompts=FixedPrompts())
TRAIN = TrainConfig(epochs=2, window=40, stride=40, batch_size=4, learning_rate=3e-3, threads=1)
SPACE = """
train.learning_rate: {low: 0.0001, high: 0.03, log: true}
head.fusion: [attention_gate, concatenation, visual]
"""
N_TRIALS, GENERATION = 8, 2

IN_TWO_PROCESSES = """
import sys
from pathlib import Path
from models.stages.sweep import sweep
from tests.models.stages.test_sweep import GENERATION, HEAD, N_TRIALS, TRAIN

if __name__ == "__main__":
    folder, run = map(Path, sys.argv[1:])
    sweep(
        manifest=folder / "manifest.jsonl", store=str(folder / "features.zarr"), run=run,
        space=str(folder / "space.yaml"), trials=N_TRIALS, prune_after=1, head=HEAD, train=TRAIN,
        generation=GENERATION, workers=2, on_case=lambda name, n: print(name, flush=True),
    )
"""


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Planted:
    found = plant(tmp_path_factory.mktemp("planted"), ("train",) * 3 + ("val",) * 3)
    (found.manifest.parent / "space.yaml").write_text(SPACE)
    return found


@pytest.fixture(scope="module", autouse=True)
def in_turn():
    """Trainings one after the other in this process: those of the killed sweep are in two."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trials, "map_in_processes", lambda function, items, *_: map(function, items))
        yield


def run(planted, folder, **changes) -> Sweep:
    space = str(planted.manifest.parent / "space.yaml")
    keys = {"trials": N_TRIALS, "generation": GENERATION, "prune_after": 1}
    keys |= {"space": space, "head": HEAD, "train": TRAIN}
    return sweep(manifest=planted.manifest, store=planted.store, run=folder, **keys | changes)


@pytest.fixture(scope="module")
def done(planted, tmp_path_factory) -> Sweep:
    return run(planted, tmp_path_factory.mktemp("sweeps") / "undisturbed")


def table(result) -> list[dict[str, str]]:
    with (result.run / f"{result.file}.csv").open() as file:
        return list(csv.DictReader(file))


def files(result) -> dict[str, bytes]:
    names = ("sweep.csv", "sweep.md", "sweep.html", BEST)
    return {name: (result.run / name).read_bytes() for name in names}


def test_the_trials_are_sorted_by_their_score(done):
    rows = table(done)
    assert len(rows) == len(done.rows) == 1 + N_TRIALS
    complete = [row for row in rows if row["state"] == "complete"]
    scores = [float(row["score"]) for row in complete]
    assert scores == sorted(scores, reverse=True)
    assert rows[: len(complete)] == complete
    for row in complete:
        assert float(row["score"]) == pytest.approx(float(row["ccc_mean"]))
    (default,) = (row for row in complete if row["trial"] == "default")
    assert (default["head.fusion"], float(default["difference"])) == ("", 0)
    assert rows[0]["head.fusion"] in ("attention_gate", "concatenation", "visual")


def test_trials_are_pruned_after_an_epoch_below_the_median(done):
    pruned = [row for row in table(done) if row["state"] == "pruned"]
    assert len(pruned) == done.n_pruned > 0
    assert done.n_trained == 1 + N_TRIALS - done.n_pruned
    for row in pruned:
        assert int(row["trial"].removeprefix("trial ")) >= 4  # there was nothing to compare with
        assert row["epochs"] == "1"
        folder = done.run / f"trial-{row['trial'].removeprefix('trial ').zfill(3)}" / "seed-0"
        assert (folder / TRAINING / METRICS).is_file()
        assert not (folder / TRAINING / LAST).exists()
        assert not (folder / HEAD_FILE).exists()


def test_the_best_config_is_taken_by_train_head_and_trains_that_head(done, tmp_path):
    best = done.rows[0]
    keys = settings(train_head, done.run / BEST, [f"run={tmp_path / 'again'}"])
    assert keys["head"].fusion == best.params["head.fusion"]
    assert keys["train"].learning_rate == best.params["train.learning_rate"]
    result = train_head(**keys)
    assert result.kept.ccc_mean == best.score


def test_what_is_said_about_the_best(done):
    text = (done.run / "sweep.md").read_text()
    assert f"{done.rows[0].name} is the best of 9 by the labels of val" in text
    assert "train.select=inner" in text
    assert "paired" in text
    page = (done.run / "sweep.html").read_text()
    assert "<svg" in page
    assert "is the best of 9" in page
    lines = [line for line in describe(done) if isinstance(line, str)]
    assert any("the best of 9" in line for line in lines)
    assert lines[-1] == f"sweep: the keys of {done.rows[0].name} are in {done.run / BEST}"


def test_a_second_run_trains_nothing_and_makes_the_same_files(done, planted):
    before = files(done)
    again = run(planted, done.run)
    assert (again.n_trained, again.n_present) == (0, done.n_trained)
    assert files(again) == before


def test_a_sweep_that_is_killed_goes_on_to_the_same_winner(done, planted, tmp_path):
    script = tmp_path / "in_two_processes.py"
    script.write_text(IN_TWO_PROCESSES)
    child = subprocess.Popen(
        [sys.executable, str(script), str(planted.manifest.parent), str(tmp_path / "sweep")],
        stdout=subprocess.PIPE,
        text=True,
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )
    assert child.stdout
    with child.stdout:
        ended = [child.stdout.readline() for _ in range(6)]  # one trial of the third generation
        child.send_signal(signal.SIGKILL)
        child.stdout.read()  # until its processes have ended, too: they have it open
    assert child.wait() == -signal.SIGKILL
    assert len({*ended}) == 6

    result = run(planted, tmp_path / "sweep")

    assert result.n_present >= 4
    assert result.n_trained < done.n_trained
    assert [(row.name, row.state, row.score) for row in result.rows] == [
        (row.name, row.state, row.score) for row in done.rows
    ]
    found = files(result)
    assert {name: found[name] for name in ("sweep.csv", BEST)} == {
        name: files(done)[name] for name in ("sweep.csv", BEST)
    }


class Killed(BaseException):
    """Instead of SIGKILL: nothing of the sweep's own code runs after it."""


def test_a_trial_that_is_killed_before_it_is_pruned_is_pruned_after_the_same_epoch(
    done, planted, tmp_path, monkeypatch
):
    number = min(int(row.name[6:]) for row in done.rows if row.state == "pruned")

    def killed(*_):
        raise Killed

    def train(on_next_epoch, **keys):  # the state after the epoch has been written
        is_pruned = keys["run"].parent.name == f"trial-{number:03d}"
        return train_head(on_next_epoch=killed if is_pruned else on_next_epoch, **keys)

    with monkeypatch.context() as patch:
        patch.setattr(trials, "train_head", train)
        with pytest.raises(Killed):
            run(planted, tmp_path / "sweep", trials=number + 1)
    result = run(planted, tmp_path / "sweep", trials=number + 1)
    (found,) = (row for row in result.rows if row.name == f"trial {number}")
    assert found in done.rows


def test_seeds_are_averaged_and_a_pruned_trial_has_only_the_first(planted, tmp_path, monkeypatch):
    monkeypatch.setattr("models.sweeps.study.LEAST_TO_PRUNE", 1)
    result = run(planted, tmp_path / "sweep", trials=3, generation=1, seeds=2)
    assert result.n_pruned == 1
    for row in result.rows:
        folder = "default" if row.name == "default" else f"trial-{int(row.name[6:]):03d}"
        seeds = sorted(path.name for path in (tmp_path / "sweep" / folder).iterdir())
        assert seeds == (["seed-0"] if row.state == "pruned" else ["seed-0", "seed-1"])
        if row.state == "complete":
            assert row.scores.n_seeds == 2
            assert row.score == pytest.approx(row.scores.ccc_mean)


def test_with_inner_selection_trials_are_compared_on_people_that_are_held_out(planted, tmp_path):
    train = TRAIN.model_copy(update={"select": "inner", "inner_share": 0.4})
    result = run(planted, tmp_path / "sweep", trials=1, train=train)
    for row in result.rows:
        assert row.score != pytest.approx(row.scores.ccc_mean)
    assert [row.score for row in result.rows] == sorted(
        (r.score for r in result.rows), reverse=True
    )
    assert "the columns of val are not" in result.selection


def test_a_trial_that_fails_is_listed_and_the_others_go_on(planted, tmp_path):
    space = tmp_path / "space.yaml"
    space.write_text("head.width: [6, 8]\nhead.n_heads: [4]\nhead.bottleneck: [null, 4]\n")
    result = run(planted, tmp_path / "sweep", space=str(space), trials=4)
    failed = {row.name for row in result.rows if row.state == "failed"}
    wrong = {
        row.name
        for row in result.rows
        if row.params and row.params["head.width"] % row.params["head.n_heads"]
    }
    assert failed == wrong
    assert failed
    assert [row.state for row in result.rows[-len(failed) :]] == ["failed"] * len(failed)
    with pytest.raises(Incomplete, match=f"{len(failed)} trainings of the sweep failed"):
        raise_if_incomplete(result)
    assert list(describe(result))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("head.widht: [8]", "space .*: unknown key 'head.widht'; the nearest valid one is 'width'"),
        ("head.temporal: [gru, gur]", "head.temporal = 'gur'"),
        ("train.learning_rate: {low: -1.0, high: 1.0}", "train.learning_rate = -1.0"),
        ("head.fusion: [audio]", "set train.loss.region_weight to 0"),
        ("head.kind: [released]", "is val .*, and last in the default; all trials are compared"),
    ],
)
def test_a_value_that_no_head_takes_is_refused_before_anything_is_trained(
    planted, tmp_path, text, message
):
    (tmp_path / "s.yaml").write_text(text)
    train = TRAIN.model_copy(update={"select": "inner"}) if "kind" in text else TRAIN
    message = message.replace("and last", "and inner")
    with pytest.raises(InputError, match=message):
        run(planted, tmp_path / "sweep", space=str(tmp_path / "s.yaml"), train=train)
    assert not (tmp_path / "sweep").exists()


def test_another_sweep_in_the_folder_is_refused(done, planted):
    before = files(done)
    with pytest.raises(InputError, match="of a sweep with another space.*give another folder"):
        run(planted, done.run, seeds=2)
    with pytest.raises(InputError, match="of a sweep with another space.*give another folder"):
        run(planted, done.run, head=HEAD.model_copy(update={"dropout": 0.1}))
    assert files(done) == before


def test_two_sweeps_at_once_in_a_folder_are_refused(planted, tmp_path):
    lock = try_lock(tmp_path / LOCK)
    assert lock
    with pytest.raises(InputError, match="is running; wait until it has ended"):
        run(planted, tmp_path)
    lock.release()
