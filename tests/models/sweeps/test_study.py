"""Trials are drawn and pruned alike, however the sweep was interrupted; nothing is trained here."""

import json

import pytest

from features.errors import InputError
from models.sweeps.space import Choices, Numbers, Space
from models.sweeps.study import JOURNAL, SweepStudy

SPACE = Space(
    {
        "train.learning_rate": Numbers(low=1e-4, high=1.0, log=True),
        "head.width": Numbers(low=8, high=32, step=8),
        "head.prompts": Choices(choices=(None, {"kind": "fixed"}, "text")),
    }
)
SIZE = 4


def open_study(folder, key="k", seed=0) -> SweepStudy:
    folder.mkdir(exist_ok=True)
    return SweepStudy(folder, SPACE, seed, SIZE, key)


def score(params) -> float:
    return 1 / (1 + params["train.learning_rate"]) - params["head.width"] / 100


def search(folder, n, *, backwards=False, reopened=False, changed=None, seed=0):
    """Run n trials; every third is pruned."""
    study = open_study(folder, seed=seed)
    for first in range(0, n, SIZE):
        numbers = range(first, min(first + SIZE, n))
        if reopened:  # as after a kill between any two steps
            for number in numbers:
                study.draw([number])
                study = open_study(folder, seed=seed)
        drawn = study.draw(numbers)
        for trial in reversed(drawn) if backwards else drawn:
            if trial.has_ended:
                continue
            found = score(trial.params) if trial.number != changed else -1.0
            study.end(trial.number, [found / 2, found], None if trial.number % 3 == 2 else found)
            if reopened:
                study = open_study(folder, seed=seed)
    return study.trials()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return search(tmp_path_factory.mktemp("study") / "s", 24)


def test_values_are_in_the_space_and_choices_are_any_value(undisturbed):
    assert {trial.params["head.width"] for trial in undisturbed} <= {8, 16, 24, 32}
    prompts = [trial.params["head.prompts"] for trial in undisturbed]
    assert all(value in (None, {"kind": "fixed"}, "text") for value in prompts)
    assert {"kind": "fixed"} in prompts
    rates = [trial.params["train.learning_rate"] for trial in undisturbed]
    assert all(1e-4 <= rate <= 1 for rate in rates)
    assert len({*rates}) == len(rates)  # those of a generation differ, too


def test_the_journal_has_the_results(undisturbed):
    for trial in undisturbed:
        found = score(trial.params)
        assert trial.curve == (found / 2, found)
        assert (trial.is_pruned, trial.score) == (
            (True, None) if trial.number % 3 == 2 else (False, found)
        )


@pytest.mark.parametrize("how", [{"backwards": True}, {"reopened": True}], ids=str)
def test_neither_the_order_of_results_nor_a_kill_decides_anything(undisturbed, tmp_path, how):
    assert search(tmp_path / "s", 24, **how) == undisturbed


def test_a_sweep_that_is_continued_is_that_with_more_trials(undisturbed, tmp_path):
    search(tmp_path / "s", 18)  # ends within a generation
    assert search(tmp_path / "s", 24) == undisturbed


def test_trials_depend_on_earlier_generations_and_on_the_seed(undisturbed, tmp_path):
    best = max((trial for trial in undisturbed[16:20] if trial.score), key=lambda t: t.score)
    found = search(tmp_path / "s", 24, changed=best.number)

    def params(trials):
        return [trial.params for trial in trials]

    assert params(found[:20]) == params(undisturbed[:20])
    assert params(found[20:]) != params(undisturbed[20:])
    assert params(search(tmp_path / "other", 4, seed=1)) != params(undisturbed[:4])


def test_a_trial_is_pruned_below_the_median_of_earlier_generations(tmp_path):
    study = open_study(tmp_path)
    curves = [(0.1, 0.5), (0.2, 0.4), (0.3, 0.9), (0.4, 0.8, 0.7), (0.9, 0.9), (0.0, 0.0)]
    for trial, curve in zip(study.draw(range(4)), curves, strict=False):
        study.end(trial.number, curve, max(curve))
    assert study.floors(3) == ()
    # the medians of .1 .2 .3 .4, and of .5 .4 .9 .8; one curve has a third epoch, and one is few
    expected = (0.25, 0.65, None)
    assert study.floors(4) == pytest.approx(expected)
    study.draw(range(4, 8))
    study.end(4, curves[4], None)  # pruned ones do not count
    study.end(5, curves[5], 0.0)
    assert study.floors(7) == study.floors(4)
    # and .0 .0, whose score of 0 is a score
    assert study.floors(8) == pytest.approx((0.2, 0.5, None))


def test_a_trial_without_a_result_is_drawn_no_second_time(tmp_path):
    drawn = open_study(tmp_path).draw(range(SIZE))
    again = open_study(tmp_path)
    again.draw(range(SIZE, 2 * SIZE))  # it failed, and the sweep went on
    assert again.draw(range(SIZE)) == drawn
    assert not drawn[0].has_ended


def test_what_a_kill_leaves_in_the_journal_is_repaired(tmp_path, caplog):
    expected = open_study(tmp_path).draw(range(2))
    path = tmp_path / JOURNAL
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"op_code": 5, "wor')
    (tmp_path / f"{JOURNAL}.lock").symlink_to(path)
    study = open_study(tmp_path)
    assert path.read_bytes().startswith(whole)
    assert "ends within a line" in caplog.text
    assert study.draw(range(2)) == expected
    study.end(0, [0.1], 0.1)  # waits for no lock
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_the_journal_of_another_sweep_is_refused(tmp_path):
    open_study(tmp_path, "k")
    with pytest.raises(InputError, match="of a sweep with another space.*give another folder"):
        open_study(tmp_path, "other")
    (tmp_path / JOURNAL).write_text("no journal\n\n{}\n")
    with pytest.raises(InputError, match="is not the journal of a sweep .*give another folder"):
        open_study(tmp_path, "k")
