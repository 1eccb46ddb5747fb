"""A training that is killed goes on to exactly the weights of one that is not."""

import json
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from features.errors import InputError
from features.manifest.manifest import read_manifest, write_manifest
from models.runs.folder import HEAD_FILE, LAST, METRICS, TRAINING
from models.stages.train_head import TrainResult, train_head
from models.training import loop
from models.training.config import TrainConfig
from models.training.last_state import SavedState
from tests.helpers.small_heads import HEAD, without_seconds
from tests.helpers.synthetic import SPLITS, Planted, plant

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
    "unlabelled": TrainConfig(
        epochs=2, unlabelled=Path("extra.jsonl"), mixup=0.5, stream_dropout=0.3, **KEYS
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
    """Beside the manifest, another one of two clips without labels: those of the test split."""
    planted = plant(tmp_path_factory.mktemp("planted"), (*SPLITS, "test"))
    clips = read_manifest(planted.manifest).clips
    extra = [clip for clip in clips if clip.split == "test"]
    write_manifest(planted.manifest.parent / "extra.jsonl", extra)
    write_manifest(planted.manifest, [clip for clip in clips if clip.split != "test"])
    return planted


def train(planted, run, settings, **changes) -> TrainResult:
    if settings.unlabelled:
        path = planted.manifest.parent / settings.unlabelled
        settings = settings.model_copy(update={"unlabelled": path})
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
        ("unlabelled", (4, 11)),
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
    assert without_seconds(run) == without_seconds(expected.run)
    assert not (run / TRAINING).exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_saves_the_step_and_says_so(planted, undisturbed, tmp_path, number):
    run, settings = tmp_path / "run", SETTINGS["blocks"]

    def interrupt(step) -> None:
        if step.epoch == 2:
            signal.raise_signal(number)  # in the first step of the epoch: the second is finished

    handler = signal.signal(number, signal.default_int_handler)  # as that of the command
    try:
        with pytest.raises(KeyboardInterrupt) as stop:
            train(planted, run, settings, on_training_step=interrupt)
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, handler)
    n_steps = 9  # 6 clips of 130 rows have 36 windows
    assert str(stop.value) == (
        f"1 epoch has ended; the state after step 2 of {n_steps} of epoch 2 is saved in "
        f"{run / TRAINING / LAST}: the same command goes on from there"
    )
    assert train(planted, run, settings).epochs == undisturbed["blocks"].epochs


def test_a_training_that_is_interrupted_while_it_is_scored_has_lost_no_step(
    planted, undisturbed, tmp_path, monkeypatch
):
    run, settings, steps = tmp_path / "run", SETTINGS["held out"], []
    with monkeypatch.context() as patch:
        scores = iter([loop.predict] * 2)  # those of the first epoch, on held-out rows and val

        def predict(*arguments):
            if (scored := next(scores, None)) is None:
                raise KeyboardInterrupt
            return scored(*arguments)

        patch.setattr(loop, "predict", predict)
        with pytest.raises(KeyboardInterrupt, match=r"after step (\d+) of \1 of epoch 2 is saved"):
            train(planted, run, settings)
    result = train(planted, run, settings, on_training_step=steps.append)
    assert min(step.epoch for step in steps) == 3
    assert result.epochs == undisturbed["held out"].epochs


def test_without_a_state_it_says_that_the_training_begins_anew(planted, tmp_path, monkeypatch):
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("models.stages.fit_head.build_head", stop)
    with pytest.raises(KeyboardInterrupt, match="no epoch has ended and no state is saved: the"):
        train(planted, tmp_path / "run", SETTINGS["blocks"])


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
