"""Training on clips without their labels (`train.unlabelled`)."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from features.errors import InputError, StoreError
from features.manifest.manifest import read_manifest, write_manifest
from models.baselines.predict import predict_baseline
from models.baselines.text import TextConfig
from models.data.region_prototypes import read_regions
from models.data.train_val import train_val_clips
from models.data.unlabelled import UNLABELLED
from models.heads.base import Head, HeadOutput
from models.heads.dspl import DsplConfig
from models.regions.prompts import FixedPrompts
from models.runs.folder import PROVENANCE, read_config
from models.stages.pseudo_labels import pseudo_labelled
from models.stages.score_head import score_head
from models.stages.train_ensemble import train_ensemble
from models.stages.train_head import TrainResult, train_head
from models.training.config import TrainConfig
from tests.helpers.synthetic import Planted, plant

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("without_figures")]

HEAD = DsplConfig(width=8, n_heads=2, prompts=FixedPrompts())
TRAIN = TrainConfig(
    epochs=2, window=40, stride=40, batch_size=4, learning_rate=1e-2, threads=1, device="cpu"
)
EXTRA = ("train-2", "train-3")


@dataclass(frozen=True)
class Sets:
    """Clips of two people to train on, of one in val, and two without labels."""

    planted: Planted
    unlabelled: Path

    def rewrite(self, name: str, **changes: str | None) -> None:
        """Change the fields of one unlabelled clip."""
        clips = read_manifest(self.unlabelled).clips
        write_manifest(
            self.unlabelled,
            [clip.model_copy(update=changes) if clip.id == name else clip for clip in clips],
        )


def make_sets(folder: Path) -> Sets:
    planted = plant(folder, ("train",) * 4 + ("val", "test"))
    clips = [
        clip.model_copy(update={"video": f"{clip.id}.mp4", "subject": f"of {clip.id}"})
        for clip in read_manifest(planted.manifest).clips
    ]
    extra = [c.model_copy(update={"labels": "gone.txt"}) for c in clips if c.id in EXTRA]
    write_manifest(folder / "extra.jsonl", extra)
    write_manifest(planted.manifest, [clip for clip in clips if clip.id not in EXTRA])
    return Sets(planted, folder / "extra.jsonl")


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> Sets:
    return make_sets(tmp_path_factory.mktemp("sets"))


@pytest.fixture
def small(tmp_path) -> Sets:
    """Sets that a test may spoil."""
    return make_sets(tmp_path)


def train(sets: Sets, run: Path, **changes) -> TrainResult:
    settings = TRAIN.model_copy(update={"unlabelled": sets.unlabelled, **changes})
    planted = sets.planted
    return train_head(
        manifest=planted.manifest, store=planted.store, run=run, head=HEAD, train=settings
    )


@pytest.fixture(scope="module")
def by_text(sets, tmp_path_factory) -> TrainResult:
    return train(sets, tmp_path_factory.mktemp("runs") / "text")


def test_unlabelled_clips_change_the_head_and_the_run_names_them(sets, by_text, tmp_path):
    without = train(sets, tmp_path / "without", unlabelled=None)
    inputs = json.loads((by_text.run / PROVENANCE).read_text())["inputs"]
    assert without.epochs != by_text.epochs
    assert inputs["clips"][UNLABELLED] == list(EXTRA)  # whose labels are gone: nobody reads them
    assert UNLABELLED not in json.loads((tmp_path / "without" / PROVENANCE).read_text())["inputs"]
    assert read_config(by_text.run).train.unlabelled == sets.unlabelled


@pytest.mark.parametrize("change", [{"pseudo_weight": 0.1}, {"pseudo_labels": "ensemble"}])
def test_the_weight_and_the_source_of_the_labels_decide_the_head(sets, by_text, tmp_path, change):
    assert train(sets, tmp_path / "run", **change).epochs != by_text.epochs


def test_the_same_training_is_kept_and_one_on_other_clips_is_not(sets, by_text, small):
    assert train(sets, by_text.run).state == "present"
    small_run = small.unlabelled.parent / "run"
    train(small, small_run)
    write_manifest(small.unlabelled, read_manifest(small.unlabelled).clips[:1])
    assert train(small, small_run).state == "trained"


def test_the_score_of_a_head_on_new_people_has_no_caution(by_text):
    scored = score_head(run=by_text.run)
    assert scored.notes == ()
    assert scored.score is not None
    assert scored.score.ccc_mean == pytest.approx(by_text.kept.ccc_mean)  # of val alone


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"id": "val-4"}, "clip 'val-4' has the id of 'val-4' in the split 'val'"),
        ({"id": "TEST-5"}, "has the id of 'test-5' in the split 'test'"),
        ({"video": "val-4.mp4"}, "clip 'train-2' has the video of 'val-4' in the split 'val'"),
        ({"subject": "of test-5"}, "has the subject of 'test-5' in the split 'test'"),
    ],
)
def test_a_clip_of_val_or_test_is_refused(small, tmp_path, change, what):
    small.rewrite("train-2", **change)
    with pytest.raises(InputError, match=f"1 of its 2 clips are .*{what}.*transductive=true"):
        train(small, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_transductive_score_says_so(small, tmp_path):
    small.rewrite("train-2", subject="of val-4")
    train(small, tmp_path / "run", transductive=True)
    (note,) = score_head(run=tmp_path / "run").notes
    assert note.startswith("1 of 1 clips are of people or videos that were trained on without")
    assert score_head(run=tmp_path / "run", split="train").notes == ()
    small.unlabelled.unlink()
    (note,) = score_head(run=tmp_path / "run", force=True).notes
    assert "which cannot be read now" in note


def test_a_clip_of_val_can_be_trained_on_without_its_labels(small, tmp_path):
    small.rewrite("train-2", id="val-4")
    result = train(small, tmp_path / "run", transductive=True)
    assert result.state == "trained"
    (note,) = score_head(run=tmp_path / "run").notes
    assert "transductive" in note


def test_a_clip_that_is_trained_on_with_its_labels_is_refused(small, tmp_path):
    small.rewrite("train-2", id="Train-1")
    with pytest.raises(InputError, match=r"1 of its clips are in the train split .*\(Train-1\)"):
        train(small, tmp_path / "run", transductive=True)


def test_a_clip_without_features_is_named(small, tmp_path):
    small.rewrite("train-2", id="new")
    with pytest.raises(StoreError, match=r"lacks features .* 1 of 5 clips \(new\); run extract"):
        train(small, tmp_path / "run")


def test_clips_of_people_who_choose_the_epoch_are_left_out(small, tmp_path):
    inner = {"select": "inner", "inner_share": 0.5, "pseudo_labels": "ensemble"}
    train(small, tmp_path / "before", **inner)
    (chosen,) = json.loads((tmp_path / "before" / PROVENANCE).read_text())["held_out"]
    small.rewrite("train-2", subject=f"of {chosen}")
    result = train(small, tmp_path / "run", **inner)
    provenance = json.loads((tmp_path / "run" / PROVENANCE).read_text())
    assert provenance["held_out"] == [chosen]
    assert provenance["inputs"]["clips"][UNLABELLED] == ["train-3"]
    (note,) = result.notes
    assert note.startswith("1 of the 2 clips of train.unlabelled")
    assert "train.select = inner holds out: they are not trained on" in note
    write_manifest(small.unlabelled, read_manifest(small.unlabelled).clips[:1])
    without = train(small, tmp_path / "last")  # the person is trained on with labels, too
    assert without.notes == ()
    with pytest.raises(InputError, match="1 of the 1 clips .*; give clips of other people"):
        train(small, tmp_path / "none", **inner)


def test_an_ensemble_refuses_them(sets, tmp_path):
    planted = sets.planted
    settings = TRAIN.model_copy(update={"unlabelled": sets.unlabelled})
    with pytest.raises(InputError, match="train.unlabelled is not for ensembles"):
        train_ensemble(
            manifest=planted.manifest, store=planted.store, run=tmp_path / "run", train=settings
        )


@pytest.fixture
def groups(sets):
    return train_val_clips(sets.planted.manifest, sets.planted.store)


class Constant(Head):
    """Predicts a hundredth of its seed."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.value = seed / 100

    def prototypes(self) -> None:
        return None

    def forward(self, batch, prototypes=None) -> HeadOutput:
        n_windows, n_rows = batch["visual"].valid.shape
        return HeadOutput(torch.full((n_windows, n_rows, 2), self.value), None)


def labels_of(groups, settings: TrainConfig):
    """The val rows, and the same with pseudo-labels in place of their labels."""
    packed = groups.load(3)
    train, val = (packed.select(groups.ids(split)) for split in ("train", "val"))
    return val, pseudo_labelled(val, train, groups, HEAD, settings, Constant)


def test_the_texts_label_the_rows_with_a_face(groups):
    val, found = labels_of(groups, TRAIN)
    assert not val["visual"].valid.all()
    assert found.va_valid.equal(val["visual"].valid)
    expected = predict_baseline(
        TextConfig(),
        groups.load(3).select(groups.ids("train")),
        val,
        {"train-0": "a", "train-1": "b"},
        partial(read_regions, groups.sets, "train-0"),
    )
    np.testing.assert_array_equal(found.va.numpy(), expected.va)


def test_an_ensemble_labels_every_row_with_the_mean_of_its_heads(groups):
    settings = TRAIN.model_copy(update={"pseudo_labels": "ensemble", "seed": 5})
    val, found = labels_of(groups, settings)
    # heads of the seeds 15, 16 and 17, which the trainings from other seeds do not have
    np.testing.assert_allclose(found.va.numpy(), 0.16, rtol=1e-6)
    assert found.va_valid.equal(val["visual"].valid | val["audio"].valid)
    assert not val["visual"].valid.all()
