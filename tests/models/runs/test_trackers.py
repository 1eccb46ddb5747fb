"""Experiment trackers, read back with their own readers."""

from pathlib import Path
from typing import Any

import pytest

from features.errors import InputError
from models.heads.dspl import DsplConfig
from models.runs import trackers
from models.runs.folder import RunConfig
from models.runs.trackers import NAMES, Tracker, check_installed, settings, tracking
from models.training.config import EpochResult, TrainConfig

pytestmark = pytest.mark.slow

EPOCHS = tuple(
    EpochResult(k, 1.5 - k / 4, 0.1, 0.3, 0.2 + k / 8, loss_valence=0.5, seconds=2.0)
    for k in range(4)
)


def config(run: Path, *names: str) -> RunConfig:
    train = TrainConfig.model_validate({"log_to": names})
    return RunConfig(manifest=Path("m"), store="s", run=run, head=DsplConfig(), train=train)


def steps_of_tensorboard(run: Path) -> dict[str, list[tuple[int, float]]]:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"), purge_orphaned_data=False).Reload()
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def steps_of_mlflow(run: Path) -> dict[str, list[tuple[int, float]]]:
    client = pytest.importorskip("mlflow").MlflowClient()
    (found,) = client.search_runs([client.get_experiment_by_name("vaflow").experiment_id])
    assert found.info.run_name == run.name
    assert found.info.status == "FINISHED"
    assert found.data.params["train.log_to"] == "['mlflow']"
    return {
        name: [
            (each.step, each.value) for each in client.get_metric_history(found.info.run_id, name)
        ]
        for name in found.data.metrics
    }


READERS = {"tensorboard": steps_of_tensorboard, "mlflow": steps_of_mlflow}


@pytest.fixture
def local_mlflow(tmp_path, monkeypatch):
    """A folder, which is made sooner than a data base."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")


@pytest.mark.filterwarnings("ignore")  # of the libraries
@pytest.mark.usefixtures("local_mlflow")
@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_a_training_that_goes_on_appends_each_epoch_once(tmp_path, name):
    pytest.importorskip(name)
    run = tmp_path / "run"
    with tracking(config(run, name), "key") as on_epochs:
        on_epochs(EPOCHS[:1])
        on_epochs(EPOCHS[:1])  # a state within the second epoch
        on_epochs(EPOCHS[:2])
    with tracking(config(run, name), "key") as on_epochs:  # one epoch back, as after a kill
        for n in (1, 2, 3):
            on_epochs(EPOCHS[:n])
    with tracking(config(run, name), "key") as on_epochs:  # killed before it wrote the fourth
        on_epochs(EPOCHS)
    found = READERS[name](run)
    assert found["val/ccc_mean"] == [
        (k + 1, pytest.approx(epoch.ccc_mean)) for k, epoch in enumerate(EPOCHS)
    ]
    assert [value for _, value in found["train/loss"]] == [1.5, 1.25, 1.0, 0.75]
    assert found.keys() == {
        "val/ccc_valence",
        "val/ccc_arousal",
        "val/ccc_mean",
        "train/loss",
        "train/loss_valence",
        "train/seconds",
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("is_new", [False, True], ids=["other key", "force"])
def test_another_training_begins_anew(tmp_path, is_new):
    pytest.importorskip("tensorboard")
    run = tmp_path / "run"
    for key, epochs in (("key", EPOCHS), ("key" if is_new else "other", EPOCHS[:2])):
        with tracking(config(run, "tensorboard"), key, is_new=is_new) as on_epochs:
            on_epochs(epochs)
    assert [step for step, _ in steps_of_tensorboard(run)["val/ccc_mean"]] == [1, 2]


def test_a_tracker_that_is_not_installed_is_named_with_its_command(monkeypatch):
    monkeypatch.setattr(trackers, "find_spec", lambda _: None)
    check_installed([])
    with pytest.raises(InputError, match=r"names wandb, which .* install .*'.\[wandb\]'`, or"):
        check_installed(["wandb"])


class Failing(Tracker):
    """A tracker whose server is away once."""

    def __init__(self, config: RunConfig, before: str | None) -> None:
        self.logged, self.written, self.status = {}, list[tuple[int, Any]](), ""
        self.id, self.is_away = "7", True
        made.append(self)

    def write(self, step, numbers) -> None:
        if self.is_away:
            self.is_away = False
            raise ConnectionError("no route")
        self.written.append((step, numbers["val/ccc_mean"]))

    def close(self, status) -> None:
        self.status = status


made: list[Failing] = []


@pytest.fixture
def failing(monkeypatch):
    monkeypatch.setattr(trackers, "TRACKERS", {"wandb": (Failing, "json")})
    made.clear()


def test_a_tracker_that_fails_does_not_end_the_training(tmp_path, failing, caplog):
    with tracking(config(tmp_path, "wandb"), "key") as on_epochs:
        on_epochs(EPOCHS[:1])
        assert "train.log_to: wandb takes no numbers now: no route" in caplog.text
        on_epochs(EPOCHS[:2])
    assert made[0].written == [(1, 0.2), (2, 0.325)]
    assert made[0].status == "FINISHED"


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, "KILLED"), (OSError, "FAILED")])
def test_a_tracker_is_told_how_the_training_ended(tmp_path, failing, error, status):
    with pytest.raises(error), tracking(config(tmp_path, "wandb"), "key"):
        raise error
    assert made[0].status == status


def test_a_tracker_that_cannot_be_opened_is_wrong_input(tmp_path, monkeypatch):
    def refuse(*_: object) -> Tracker:
        raise RuntimeError("no such server")

    monkeypatch.setattr(trackers, "TRACKERS", {"mlflow": (refuse, "json")})
    message = r"mlflow cannot be opened \(no such server\); correct its settings in the"
    with pytest.raises(InputError, match=message), tracking(config(tmp_path, "mlflow"), "key"):
        pass


def test_settings_are_dotted_and_every_number_of_an_epoch_has_a_name():
    found = settings(config(Path("r")))
    assert found["train.loss.sigma"] == "0.45"
    assert "train.patience" not in found  # null
    assert {*NAMES, "index"} == set(EpochResult.__dataclass_fields__)
