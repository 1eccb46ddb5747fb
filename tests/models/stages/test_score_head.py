import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml

from features.errors import InputError, SpecMismatch
from features.manifest.labels import read_labels
from features.manifest.manifest import read_manifest, write_manifest
from features.store.feature_store import FeatureStore
from features.system.files import write_atomic
from models.data.batches import batches
from models.data.packed import PackedFeatures
from models.data.windows import dense_windows
from models.heads.base import Head, HeadOutput, RegionOutput
from models.heads.dspl import DsplConfig
from models.metrics.ccc import Concordance
from models.metrics.intervals import score_intervals
from models.metrics.predict import Prediction, concordance, fill_gaps, predict
from models.metrics.scores import split_score, sums_by_subject
from models.runs.checkpoint import load_head
from models.runs.folder import (
    CLIPS,
    CONFIG,
    HEAD_FILE,
    PREDICTIONS,
    REPORT,
    SCORES,
    SUBMISSION,
    write_json,
)
from models.runs.run_split import open_split, read_split
from models.stages.score_head import score_head, write_predictions
from models.stages.train_head import train_head
from models.submission.check import check
from models.submission.format import NOT_COMPARED, read_sample
from models.training.config import TrainConfig
from tests.helpers.synthetic import AST_SPEC, N_FRAMES, Planted, plant
from tests.helpers.two_streams import packed_streams

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("without_figures")]

TRAIN = TrainConfig(epochs=2, window=40, stride=30, batch_size=4, learning_rate=1e-2, threads=1)


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Planted:
    return plant(tmp_path_factory.mktemp("planted"), ("train", "train", "val", "val", "test"))


@pytest.fixture(scope="module")
def trained(planted, tmp_path_factory):
    return train_head(
        manifest=planted.manifest,
        store=planted.store,
        run=tmp_path_factory.mktemp("runs") / "trained",
        head=DsplConfig(width=8),
        train=TRAIN,
    )


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the run that a test may spoil."""
    folder = tmp_path / "run"
    folder.mkdir()
    for file in trained.run.iterdir():
        if file.name not in (SCORES, CLIPS, PREDICTIONS, SUBMISSION, REPORT):
            (folder / file.name).write_bytes(file.read_bytes())
    return folder


def rows_of(run) -> list[dict[str, str]]:
    with (run / PREDICTIONS).open(newline="") as file:
        return list(csv.DictReader(file))


class Echo(Head):
    """Stands in for a head: V is the first visual number, A the row's place in its window."""

    def prototypes(self):
        return None

    def forward(self, batch, prototypes=None):
        place = (
            torch.arange(batch["visual"].values.shape[1]).expand(batch["visual"].values.shape[:2])
            / 100
        )
        return HeadOutput(
            torch.stack([batch["visual"].values[..., 0], place.float()], dim=-1), None
        )


class EchoRegions(Head):
    """Region logits: the first visual number for the first region, the place in the window
    for the second, and 0 for the third; against prototypes that only count."""

    def __init__(self, branch: bool = True) -> None:
        super().__init__()
        self.branch = branch

    def prototypes(self):
        return torch.eye(3)

    def forward(self, batch, prototypes=None):
        place = (
            torch.arange(batch["visual"].values.shape[1])
            .expand(batch["visual"].values.shape[:2])
            .float()
        )
        logits = torch.stack(
            [batch["visual"].values[..., 0], place, torch.zeros_like(place)], dim=-1
        )
        # where nothing was seen the logits are nonsense, and must not count
        logits = torch.where(batch["visual"].valid.unsqueeze(-1), logits, torch.nan)
        va = torch.zeros(*place.shape, 2)
        return HeadOutput(va, RegionOutput(logits, batch["visual"].valid) if self.branch else None)


def packed_rows(values, lengths) -> PackedFeatures:
    n = len(values)
    visual = torch.tensor(values, dtype=torch.float16)[:, None]
    yes = torch.ones(n, dtype=torch.bool)
    return PackedFeatures(
        tuple(f"c{k}" for k in range(len(lengths))),
        np.concatenate([[0], np.cumsum(lengths)]),
        np.arange(n) * 0.04,
        streams=packed_streams(visual, yes, visual, yes),
        va=torch.zeros(n, 2, dtype=torch.float64),
        va_valid=yes,
    )


def windows(packed, size, stride):
    return dense_windows(packed.offsets, size=size, stride=stride)


def test_overlapping_windows_are_merged_by_mean():
    # one clip of 5 rows, windows [0, 3), [2, 5): row 2 is at place 2 and at place 0: mean .01
    packed = packed_rows([0.0] * 5, [5])
    found = predict(Echo(), packed, windows(packed, 3, 2))
    np.testing.assert_allclose(found.va[:, 1], [0, 0.01, 0.01, 0.01, 0.02], atol=1e-7)


def test_region_posteriors_are_merged_by_mean_over_the_rows_that_were_seen():
    # one clip of 5 rows, windows [0, 3), [2, 5): row 2 is at places 2 and 0, row 3 is not seen;
    # a second clip of 2 rows is padded to 3
    packed = packed_rows([0.0, 1.0, 2.0, 0.0, 1.0, 3.0, 0.5], [5, 2])
    packed["visual"].valid[3] = False
    found = predict(EchoRegions(), packed, windows(packed, 3, 2), regions=True).regions
    assert found.valid.tolist() == [True, True, True, False, True, True, True]

    def share(value, place):
        return np.exp([value, place, 0]) / np.exp([value, place, 0]).sum()

    expected = [
        share(0, 0),
        share(1, 1),
        (share(2, 2) + share(2, 0)) / 2,
        np.zeros(3),
        share(1, 2),
        share(3, 0),
        share(0.5, 1),
    ]
    np.testing.assert_allclose(found.posterior, expected, atol=1e-7)


def test_a_head_without_a_region_branch_has_no_posterior():
    packed = packed_rows([0.0] * 5, [5])
    found = predict(EchoRegions(branch=False), packed, windows(packed, 3, 2), regions=True)
    assert found.regions is None


def test_the_region_branch_leaves_the_predictions_alone(trained):
    source = open_split(trained.run, None, None, "val")
    plain, with_regions = read_split(source), read_split(source, regions=True)
    assert plain.prediction.regions is None
    assert with_regions.prediction.regions is not None
    np.testing.assert_array_equal(plain.prediction.va, with_regions.prediction.va)


def test_each_row_gets_its_own_prediction_and_is_clamped():
    values = [0.1, 0.2, 0.3, -0.5, 2.0, 0.25, -3.0]
    packed = packed_rows(values, [3, 4])
    found = predict(Echo(), packed, windows(packed, 4, 1))
    expected = np.clip(np.float16(values).astype(float), -1, 1)
    np.testing.assert_allclose(found.va[:, 0], expected, atol=1e-7)


def test_gaps_are_filled_in_time():
    # between rows at 0 s and 4 s the row at 1 s lies a quarter of the way, though halfway in rows
    va = np.array([[0.0, 1.0], [9, 9], [0.8, 0.2], [9, 9]])
    seen = np.array([True, False, True, False])
    filled = fill_gaps(va, seen, np.array([0.0, 1.0, 4.0, 5.0]))
    np.testing.assert_allclose(filled, [[0, 1], [0.2, 0.8], [0.8, 0.2], [0.8, 0.2]])


def test_gaps_are_filled_within_a_clip_only():
    packed = packed_rows([0.5, 0.5, 0.1, 0.1], [2, 2])
    packed["visual"].valid[:] = torch.tensor([True, False, False, True])
    found = predict(Echo(), packed, windows(packed, 2, 1))
    np.testing.assert_allclose(found.va[:, 0], [0.5, 0.5, 0.1, 0.1], atol=1e-3)
    assert found.interpolated.tolist() == [False, True, True, False]


def test_a_clip_without_any_face_keeps_what_the_sound_says():
    packed = packed_rows([0.5, 0.25], [2])
    packed["visual"].valid[:] = False
    found = predict(Echo(), packed, windows(packed, 2, 1))
    np.testing.assert_allclose(found.va[:, 0], [0.5, 0.25], atol=1e-3)
    assert not found.interpolated.any()


def test_only_annotated_rows_count():
    packed = packed_rows([0.0] * 4, [4])
    packed.va_valid[:] = torch.tensor([True, False, True, True])
    packed.va[:, 0] = torch.tensor([0.0, 0.9, 0.5, 1.0])
    va = np.array([[0.0, 0], [-1, 0], [0.5, 0], [1, 0]])
    found = concordance(Prediction(va, np.zeros(4, dtype=bool)), packed)
    assert found.valence.n == 3
    assert found.valence.ccc() == pytest.approx(1)


def test_the_sums_of_a_subject_are_those_of_all_their_clips():
    packed = packed_rows([0.0] * 6, [2, 2, 2])
    rng = np.random.default_rng(0)
    packed.va[:] = torch.from_numpy(rng.uniform(-1, 1, (6, 2)))
    prediction = Prediction(rng.uniform(-1, 1, (6, 2)), np.zeros(6, dtype=bool))
    found = sums_by_subject(prediction, packed, {"c0": "one", "c1": "other", "c2": "one"})
    assert list(found) == ["one", "other"]
    rows = [0, 1, 4, 5]
    together = Concordance.of(packed.va[rows, 1].numpy(), prediction.va[rows, 1])
    assert found["one"].arousal.n == 4
    assert found["one"].arousal.ccc() == pytest.approx(together.ccc())


def test_batches_cover_the_order():
    assert [part.tolist() for part in batches(np.arange(5), 2)] == [[0, 1], [2, 3], [4]]
    assert [part.tolist() for part in batches(np.arange(4), 2)] == [[0, 1], [2, 3]]


def test_the_score_is_that_of_the_best_epoch(trained, run):
    result = score_head(run=run)
    assert result.state == "scored"
    assert result.score.ccc_valence == trained.kept.ccc_valence
    assert result.score.ccc_mean == trained.kept.ccc_mean
    written = json.loads((run / SCORES).read_text())
    assert list(written) == ["val"]
    assert set(written["val"]) == {
        "ccc_valence",
        "ccc_arousal",
        "ccc_mean",
        "n_frames",
        "n_clips",
        "n_interpolated",
        "n_subjects",
        "ccc_valence_low",
        "ccc_valence_high",
        "ccc_arousal_low",
        "ccc_arousal_high",
        "ccc_mean_low",
        "ccc_mean_high",
        "ccc_valence_bca_low",
        "ccc_valence_bca_high",
        "ccc_arousal_bca_low",
        "ccc_arousal_bca_high",
        "ccc_mean_bca_low",
        "ccc_mean_bca_high",
    }
    for name in ("valence", "arousal", "mean"):
        low, score, high = (written["val"][f"ccc_{name}{end}"] for end in ("_low", "", "_high"))
        assert low <= score <= high
        found = getattr(score_intervals_of(run), name)
        ends = tuple(written["val"][f"ccc_{name}_bca_{end}"] for end in ("low", "high"))
        assert ends == found.bca
    assert written["val"]["n_subjects"] == 2
    assert written["val"]["n_frames"] == 2 * N_FRAMES  # one row more, one of them unannotated
    assert written["val"]["n_clips"] == 2
    assert written["val"]["n_interpolated"] == 6


def score_intervals_of(run):
    """The intervals of the val split, from the predictions of the run."""
    reading = read_split(open_split(run, None, None, "val"))
    subjects = sums_by_subject(reading.prediction, reading.packed, reading.source.subject_by_clip)
    return score_intervals(list(subjects.values()))


def test_the_score_can_be_had_from_the_predictions_alone(planted, run):
    result = score_head(run=run)
    truth, predicted = [], []
    rows = rows_of(run)
    for clip in read_manifest(planted.manifest).clips:
        if clip.split != "val":
            continue
        labels = read_labels(planted.manifest.parent / clip.labels)
        own = [row for row in rows if row["clip"] == clip.id]
        assert [int(row["frame"]) for row in own] == list(range(1, len(labels.va) + 1))
        values = np.array([[float(row["valence"]), float(row["arousal"])] for row in own])
        truth.append(labels.va[labels.valid])
        predicted.append(values[labels.valid])
        clip_score = next(score for score in result.clips if score.clip == clip.id)
        by_hand = Concordance.of(truth[-1][:, 1], predicted[-1][:, 1]).ccc()
        assert clip_score.ccc_arousal == pytest.approx(by_hand, abs=1e-4)
    all_truth, all_predicted = np.concatenate(truth), np.concatenate(predicted)
    by_hand = Concordance.of(all_truth[:, 0], all_predicted[:, 0]).ccc()
    assert result.score.ccc_valence == pytest.approx(by_hand, abs=1e-4)


def test_predictions_carry_the_frames_times(run):
    score_head(run=run)
    assert (run / PREDICTIONS).read_text().startswith("clip,frame,time_s,valence,arousal\n")
    assert [row["time_s"] for row in rows_of(run)[:2]] == ["0.000000", "0.040000"]
    assert all(abs(float(row["valence"])) <= 1 for row in rows_of(run))


def test_nothing_is_done_when_nothing_changed(run):
    first = score_head(run=run)
    before = {file: file.stat().st_mtime_ns for file in run.iterdir()}
    second = score_head(run=run)
    assert second.state == "present"
    assert (second.score, second.clips) == (first.score, first.clips)
    assert {file: file.stat().st_mtime_ns for file in run.iterdir()} == before
    assert score_head(run=run, force=True).state == "scored"
    (run / PREDICTIONS).unlink()
    assert score_head(run=run).state == "scored"


def test_new_labels_make_a_new_score(run, tmp_path):
    planted = plant(tmp_path, ("train", "train", "val", "val", "test"))
    score_head(run=run, manifest=planted.manifest, store=planted.store)
    labels = tmp_path / "val-3.txt"
    labels.write_text(labels.read_text().replace("0.", "0.0"))
    again = score_head(run=run, manifest=planted.manifest, store=planted.store)
    assert again.state == "scored"


def test_the_test_split_gets_predictions_and_no_score(run):
    score_head(run=run, split="val")
    result = score_head(run=run, split="test")
    assert result.score is None
    assert result.clips[0].n_frames == 0
    assert list(json.loads((run / SCORES).read_text())) == ["val"]
    lines = (run / SUBMISSION).read_text().splitlines()
    assert lines[0] == "image_location,valence,arousal"
    assert len(lines) == 1 + N_FRAMES
    assert lines[1].startswith("test-4/00001.jpg,")
    assert lines[-1].startswith(f"test-4/{N_FRAMES:05d}.jpg,")
    assert {row["clip"] for row in rows_of(run)} == {"val-2", "val-3", "test-4"}
    assert score_head(run=run, split="test").state == "present"
    assert score_head(run=run, split="val").state == "present"  # its rows are still there


def a_sample(folder, n_rows, name="sample.txt"):
    rows = "".join(f"test-4/{k:05d}.jpg,\n" for k in range(n_rows, 0, -1))
    (folder / name).write_text("image_location,valence,arousal\n" + rows)
    return folder / name


def test_the_submission_has_the_samples_rows_and_another_sample_writes_it_anew(run, tmp_path):
    listed = score_head(run=run, split="test")
    assert listed.notes == (NOT_COMPARED,)
    frames = (run / SUBMISSION).read_text().splitlines()
    sample = a_sample(tmp_path, N_FRAMES + 2)
    result = score_head(run=run, split="test", sample=sample)
    assert result.state == "scored"
    held = "submission.txt: 2 rows of the sample lie beyond the last frame and hold its prediction"
    assert result.notes == (f"{held} (test-4: 2)",)
    lines = (run / SUBMISSION).read_text().splitlines()
    assert lines[3:] == frames[:0:-1]
    values = frames[-1].split(",", 1)[1]
    last = [f"test-4/{k:05d}.jpg,{values}" for k in (N_FRAMES + 2, N_FRAMES + 1)]
    assert lines[1:3] == last
    assert check(run / SUBMISSION, read_sample(sample)) == ()
    again = score_head(run=run, split="test", sample=sample)
    assert (again.state, again.notes) == ("present", result.notes)
    assert score_head(run=run, split="test", sample=a_sample(tmp_path, N_FRAMES)).state == "scored"
    assert len((run / SUBMISSION).read_text().splitlines()) == 1 + N_FRAMES
    assert score_head(run=run, split="test").notes == (NOT_COMPARED,)
    assert (run / SUBMISSION).read_text().splitlines() == frames


def test_a_sample_that_asks_for_more_leaves_the_run_as_it_was(run, tmp_path):
    score_head(run=run, split="test")
    before = {file: file.read_bytes() for file in run.iterdir()}
    sample = a_sample(tmp_path, N_FRAMES + 4)
    with pytest.raises(InputError, match="at row 134 and frame 130"):
        score_head(run=run, split="test", sample=sample)
    assert {file: file.read_bytes() for file in run.iterdir()} == before
    allowed = score_head(run=run, split="test", sample=sample, max_length_mismatch=4)
    assert "(test-4: 4)" in allowed.notes[0]


def test_a_sample_is_left_aside_where_no_submission_is_written(run, tmp_path):
    result = score_head(run=run, sample=tmp_path / "none.txt")
    assert result.notes == (
        f"sample = {tmp_path / 'none.txt'} is left aside: a submission is of the split 'test'",
    )
    assert not (run / SUBMISSION).exists()


def test_scores_of_several_splits_stand_side_by_side(run):
    score_head(run=run, split="val")
    score_head(run=run, split="train")
    score_head(run=run, split="train", force=True)
    assert list(json.loads((run / SCORES).read_text())) == ["val", "train"]
    assert len(rows_of(run)) == 4 * N_FRAMES + 1  # none twice


def test_features_of_another_spec_are_refused(planted, run, tmp_path):
    store = FeatureStore.open(tmp_path / "other.zarr", create=True)
    track = FeatureStore.open(planted.store).read(AST_SPEC.name, "val-2")
    store.write(AST_SPEC, "val-2", track, source={}, provenance={})
    message = "the head was trained on clip-.*own encoder config .*provenance.json.*, or retrain"
    with pytest.raises(SpecMismatch, match=message):
        score_head(run=run, store=str(store.path))


def test_a_folder_without_a_head_is_refused(run, tmp_path):
    with pytest.raises(InputError, match=r"no trained head at .*; run train-head first"):
        score_head(run=tmp_path)
    (run / "config.yaml").unlink()
    with pytest.raises(InputError, match="is not the folder of a run"):
        score_head(run=run)


def test_a_config_that_was_spoiled_is_refused(run):
    (run / "config.yaml").write_text("manifest: [")
    with pytest.raises(InputError, match="is not a config of train-head"):
        score_head(run=run)


def test_scores_that_were_spoiled_are_refused(run):
    (run / SCORES).write_text("{")
    with pytest.raises(InputError, match=r"scores.json is not JSON .*delete it and score again"):
        score_head(run=run)


def test_an_empty_split_is_refused(run, planted, tmp_path):
    clips = [c for c in read_manifest(planted.manifest).clips if c.split == "train"]
    write_manifest(tmp_path / "m.jsonl", clips)
    with pytest.raises(InputError, match="no clip of the split 'val', only of train"):
        score_head(run=run, manifest=tmp_path / "m.jsonl")


def test_scoring_loads_no_text_tower(run, monkeypatch):
    def refuse(*_):
        raise AssertionError("a CLIP was loaded")

    monkeypatch.setattr("features.encoders.clip.load_clip", refuse)
    assert score_head(run=run).state == "scored"
    assert load_head(run / HEAD_FILE, torch.device("cpu")).prototypes().shape == (9, 16)


def test_other_sound_makes_another_key(planted, run, tmp_path):
    before = open_split(run, None, None, "val").key()
    shutil.copytree(planted.store, tmp_path / "features.zarr")
    shutil.copy(planted.manifest, tmp_path)
    for labels in planted.manifest.parent.glob("*.txt"):
        shutil.copy(labels, tmp_path)
    moved = (tmp_path / "manifest.jsonl", str(tmp_path / "features.zarr"))
    assert open_split(run, *moved, "val").key() == before
    store = FeatureStore.open(moved[1])
    sound = store.read(AST_SPEC.name, "val-2")
    louder = replace(sound, values=sound.values * np.float16(2))
    store.write(AST_SPEC, "val-2", louder, source={"video": "2"}, provenance={})
    assert open_split(run, *moved, "val").key() != before


def test_a_subject_named_like_a_clip_is_someone_else(planted, run, tmp_path):
    clips = [
        clip.model_copy(update={"subject": "val-3"}) if clip.id == "val-2" else clip
        for clip in read_manifest(planted.manifest).clips
    ]
    write_manifest(tmp_path / "manifest.jsonl", clips)
    for labels in planted.manifest.parent.glob("*.txt"):
        shutil.copy(labels, tmp_path)
    source = open_split(run, tmp_path / "manifest.jsonl", None, "val")
    assert len(set(source.subject_by_clip.values())) == 2


def test_clips_and_people_without_annotated_rows_do_not_count(run):
    reading = read_split(open_split(run, None, None, "val"))
    span = dict(reading.packed.spans())["val-3"]
    marked = reading.packed.va_valid.clone()
    marked[span] = False
    packed = replace(reading.packed, va_valid=marked)
    found = split_score(reading.prediction, packed, reading.source.subject_by_clip)
    assert (found.n_clips, found.n_subjects) == (1, 1)
    assert found.ccc_mean_low is None


def test_a_clip_called_like_the_header_keeps_its_predictions(tmp_path):
    path = tmp_path / "predictions.csv"
    for names in (("clip", "b"), ("c",)):
        n_rows = 2 * len(names)
        some = torch.ones(n_rows, dtype=torch.bool)
        packed = PackedFeatures(
            names,
            np.arange(0, n_rows + 1, 2),
            np.arange(n_rows) / 25.0,
            streams=packed_streams(
                torch.zeros(n_rows, 3).half(), some, torch.zeros(n_rows, 3).half(), some
            ),
            va=torch.zeros(n_rows, 2).double(),
            va_valid=some,
        )
        prediction = Prediction(np.zeros((n_rows, 2)), np.zeros(n_rows, dtype=bool))
        write_predictions(path, packed, prediction, set())
    found = [line.split(",")[0] for line in path.read_text().splitlines()]
    assert found == ["clip", "clip", "clip", "b", "b", "c", "c"]


def test_a_clip_that_left_the_split_leaves_the_predictions(planted, run):
    score_head(run=run)
    assert {row["clip"] for row in rows_of(run)} == {"val-2", "val-3"}
    clips = [clip for clip in read_manifest(planted.manifest).clips if clip.id != "val-3"]
    fewer = planted.manifest.with_name("fewer.jsonl")
    write_manifest(fewer, clips)
    assert score_head(run=run, manifest=fewer).score.n_clips == 1
    assert {row["clip"] for row in rows_of(run)} == {"val-2"}


def one_person(planted, tmp_path):
    """A manifest in which all clips show one person, so that scores have another key."""
    clips = read_manifest(planted.manifest).clips
    manifest = planted.manifest.with_name(f"{tmp_path.name}.jsonl")
    write_manifest(manifest, [clip.model_copy(update={"subject": "one"}) for clip in clips])
    return manifest


@pytest.mark.parametrize("name", [PREDICTIONS, SCORES, CLIPS])
def test_a_scoring_that_is_killed_commits_nothing_old_or_new(
    planted, run, tmp_path, monkeypatch, name
):
    first = score_head(run=run)
    other = one_person(planted, tmp_path)
    n_writes = {PREDICTIONS: 1, SCORES: 1, CLIPS: 2}  # clips.json loses the entry, then gets it

    def killed(write):
        def wrapped(path, content):
            if path.name == name:
                n_writes[name] -= 1
                if not n_writes[name]:
                    raise KeyboardInterrupt
            write(path, content)

        return wrapped

    with monkeypatch.context() as patch:
        for function in (write_json, write_atomic):
            patch.setattr(f"models.stages.score_head.{function.__name__}", killed(function))
        with pytest.raises(KeyboardInterrupt):
            score_head(run=run, manifest=other)

    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    again = score_head(run=run)
    assert (again.state, again.score) == ("scored", first.score)
    assert score_head(run=copy, manifest=other).state == "scored"


def test_a_scoring_uses_the_threads_of_the_training(run, monkeypatch):
    before, seen = torch.get_num_threads(), []
    config = yaml.safe_load((run / CONFIG).read_text())
    config["train"]["threads"] = before + 1
    (run / CONFIG).write_text(yaml.safe_dump(config))

    def predict_and_note(*given, **keys):
        seen.append(torch.get_num_threads())
        return predict(*given, **keys)

    monkeypatch.setattr("models.runs.predictor.predict", predict_and_note)
    score_head(run=run)

    assert seen == [before + 1]
    assert torch.get_num_threads() == before


def test_a_scoring_with_its_report_loads_the_head_and_draws_the_intervals_once(run, monkeypatch):
    called = []

    def counted(function):
        def wrapped(*given, **keys):
            called.append(function.__name__)
            return function(*given, **keys)

        return wrapped

    monkeypatch.setattr("models.runs.predictor.load_head", counted(load_head))
    monkeypatch.setattr("models.runs.predictor.predict", counted(predict))
    monkeypatch.setattr("models.metrics.scores.score_intervals", counted(score_intervals))
    assert score_head(run=run).state == "scored"

    assert sorted(called) == ["load_head", "predict", "score_intervals"]
    assert "KL divergence" in (run / REPORT).read_text()
