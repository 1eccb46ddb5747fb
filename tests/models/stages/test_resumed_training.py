"""A training that is killed goes on to exactly the weights of one that is not."""

import json

import pytest
import torch
from safetensors.torch import load_file

from features.errors import InputError
from models.runs.folder import HEAD_FILE, LAST, METRICS, TRAINING
from models.stages.train_head import TrainResult, train_head
from models.training import loop
from models.training.config import TrainConfig
from models.training.last_state import SavedState
from tests.helpers.small_heads import HEAD
from tests.helpers.synthetic import Planted, plant

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("without_figures")]

KEYS = {"window": 40, "stride": 20, "batch_size": 4, "learning_rate": 1e-2, "threads": 1}
SETTINGS = {
    "mixup and dropped streams": TrainConfig(
        epochs=3, mixup=0.5, stream_dropout=0.3, drop_last=True, **KEYS
    ),
    "blocks": TrainConfig(epochs=3, bank_mib=1, **KEYS),
    "held out": TrainConfig(epochs=3, select="inner", inner_share=0.4, patience=1, **KEYS),
    "an early epoch is kept": TrainConfig(
        epochs=5, select="inner", inner_share=0.4, min_delta=2, patience=2, **KEYS
    ),
}


class Killed(Exception):
    """Instead of SIGKILL: nothing of the training's own code runs after it."""


@pytest.fixture(scope="module", autouse=True)
def small_device():
    """A MiB is so small that the features of `blocks` are streamed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("models.data.placement.MIB", 2**13)
        yield


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Planted:
    return plant(tmp_path_factory.mktemp("planted"))


def train(planted, run, settings, **changes) -> TrainResult:
    return train_head(
        run=run,
        head=HEAD,
        train=settings,
        manifest=planted.manifest,
        store=planted.store,
        **changes,
    )


def killed_in_step(monkeypatch, number: int, every: int) -> None:
    """Kill the training in a step, and have it write its state after every few steps."""
    taken, step = [0], loop.step

    def counted(*arguments, **keys):
        taken[0] += 1
        if taken[0] == number:
            raise Killed
        return step(*arguments, **keys)

    monkeypatch.setattr(loop, "step", counted)
    monkeypatch.setattr(SavedState, "is_due", lambda _: taken[0] % every == 0)


@pytest.fixture(scope="module")
def undisturbed(planted, tmp_path_factory) -> dict[str, TrainResult]:
    folder = tmp_path_factory.mktemp("undisturbed")
    return {
        name: train(planted, folder / name.replace(" ", "-"), settings)
        for name, settings in SETTINGS.items()
    }


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("mixup and dropped streams", (2, 11, 9)),
        ("blocks", (9, 14)),
        ("held out", (5, 6)),
        ("an early epoch is kept", (8, 9)),
    ],
)
def test_a_killed_training_goes_on_to_the_same_weights(
    planted, undisturbed, tmp_path, monkeypatch, name, steps
):
    run, expected = tmp_path / "run", undisturbed[name]
    for number in steps:
        with monkeypatch.context() as patch:
            killed_in_step(patch, number, every=2)
            with pytest.raises(Killed):
                train(planted, run, SETTINGS[name])
        assert not (run / HEAD_FILE).exists()

    result = train(planted, run, SETTINGS[name])

    assert result.epochs == expected.epochs
    assert any("were streamed" in note for note in result.notes) == (name == "blocks")
    assert any("of a training that had not ended" in note for note in result.notes)
    found, wanted = (load_file(each.run / HEAD_FILE) for each in (result, expected))
    assert found.keys() == wanted.keys()
    for tensor in wanted:
        assert torch.equal(found[tensor], wanted[tensor]), tensor
    assert (run / METRICS).read_bytes() == (expected.run / METRICS).read_bytes()
    assert not (run / TRAINING).exists()


def test_epochs_that_have_ended_are_in_a_file_while_others_run(planted, tmp_path, monkeypatch):
    run, settings = tmp_path / "run", SETTINGS["held out"]
    seen = []

    def look(epoch):
        lines = (run / TRAINING / METRICS).read_text().splitlines()
        seen.append([json.loads(line)["index"] for line in lines])

    result = train(planted, run, settings, on_epoch=look)
    assert seen == [list(range(k + 1)) for k in range(len(result.epochs))]


def test_a_state_of_other_settings_or_one_that_is_damaged_is_left_aside(
    planted, undisturbed, tmp_path, monkeypatch
):
    name = "mixup and dropped streams"
    settings, expected = SETTINGS[name], undisturbed[name]
    for other, damage in ((SETTINGS["blocks"], None), (settings, b"\x80rubbish"), (settings, b"")):
        run = tmp_path / f"run-{damage}"
        with monkeypatch.context() as patch:
            killed_in_step(patch, 9, every=2)
            with pytest.raises(Killed):
                train(planted, run, other)
        if damage is not None:
            (run / TRAINING / LAST).write_bytes(damage)
        result = train(planted, run, settings)
        assert not any("had not ended" in note for note in result.notes)
        assert result.epochs == expected.epochs


def test_the_head_that_is_replaced_stays_until_the_new_one_is_there(
    planted, undisturbed, tmp_path, monkeypatch
):
    run, brief = tmp_path / "run", TrainConfig(epochs=1, **KEYS)
    before = (train(planted, run, brief).run / HEAD_FILE).read_bytes()
    with monkeypatch.context() as patch:
        killed_in_step(patch, 9, every=2)
        with pytest.raises(Killed):
            train(planted, run, SETTINGS["blocks"])
    assert (run / HEAD_FILE).read_bytes() == before
    assert train(planted, run, brief).state == "present"
    result = train(planted, run, SETTINGS["blocks"])
    assert result.reason.startswith("the settings changed: train.bank_mib")
    assert result.epochs == undisturbed["blocks"].epochs


def test_with_force_a_training_begins_anew(planted, undisturbed, tmp_path, monkeypatch):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        killed_in_step(patch, 9, every=2)
        with pytest.raises(Killed):
            train(planted, run, SETTINGS["blocks"])
    result = train(planted, run, SETTINGS["blocks"], force=True)
    assert not any("had not ended" in note for note in result.notes)
    assert result.epochs == undisturbed["blocks"].epochs


def test_a_folder_of_something_else_is_not_taken(planted, tmp_path):
    (tmp_path / "note.txt").touch()
    with pytest.raises(InputError, match="holds files that do not belong to a run"):
        train(planted, tmp_path, SETTINGS["blocks"])
