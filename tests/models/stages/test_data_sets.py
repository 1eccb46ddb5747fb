"""Several data sets in one training, from the manifests to the scores of each."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from features.clip import Track
from features.errors import InputError
from features.manifest.labels import Labels, read_labels
from features.manifest.manifest import read_manifest, write_manifest
from features.store.feature_store import FeatureStore
from flows.command.main import main
from models.baselines.ridge import RidgeConfig
from models.data.data_sets import LabelMap, data_sets
from models.data.label_maps import mapped, matching_maps
from models.data.train_val import load_splits
from models.metrics.scores import mean_ccc_of_sets
from models.runs.folder import PREDICTIONS, SCORES, read_config
from models.runs.run_split import open_split, read_split
from models.stages.ablate import ablate
from models.stages.baselines import score_baselines
from models.stages.score_head import score_head
from models.stages.train_head import TrainResult, train_head
from models.training import passes
from models.training.config import TrainConfig
from tests.helpers.small_heads import HEAD
from tests.helpers.synthetic import AST_SPEC, plant

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("without_figures")]

BRIEF = TrainConfig(
    epochs=4, window=40, stride=20, batch_size=4, learning_rate=1e-2, threads=1, mixup=0
)
# the labels of the second set, valence and arousal: smaller scales, and another middle of each
SLOPE, OFFSET = np.array([0.5, 0.25]), np.array([0.2, -0.3])


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> dict[str, tuple[Path, str]]:
    """Two sets with the same ids and subjects, but other clips, and labels on other scales."""
    found = {}
    for number, name in enumerate(("first", "second")):
        folder = tmp_path_factory.mktemp(name)
        planted = plant(folder, ("train",) * 4 + ("val",) * 2, seed=number)
        manifest = folder / f"{name}.jsonl"
        clips = [
            clip.model_copy(update={"subject": f"person {k}"})
            for k, clip in enumerate(read_manifest(planted.manifest).clips)
        ]
        write_manifest(manifest, clips)
        if number:
            for file in folder.glob("*.txt"):
                rescale(file)
        found[name] = manifest, planted.store
    return found


def rescale(file: Path) -> None:
    head, *rows = file.read_text().splitlines()
    values = np.array([[float(cell) for cell in row.split(",")] for row in rows])
    known = (values != -5).all(axis=1)
    values[known] = values[known] * SLOPE + OFFSET
    file.write_text("\n".join([head, *(f"{v:.6f},{a:.6f}" for v, a in values)]) + "\n")


def both(sets) -> dict[str, object]:
    manifests, stores = zip(*sets.values(), strict=True)
    return {"manifest": manifests, "store": stores}


def train(sets, run: Path, **changes) -> TrainResult:
    return train_head(run=run, **({"head": HEAD, "train": BRIEF} | both(sets) | changes))


@pytest.fixture(scope="module")
def trained(sets, tmp_path_factory) -> TrainResult:
    settings = BRIEF.model_copy(update={"label_maps": "match"})
    return train(sets, tmp_path_factory.mktemp("runs") / "both", train=settings)


def test_clips_and_people_of_two_sets_are_kept_apart(sets):
    splits = load_splits(**both(sets))
    assert splits.val.clip_ids == ("first/val-4", "first/val-5", "second/val-4", "second/val-5")
    assert splits.subject_by_clip["second/val-4"] == "subject second/person 4"
    alone = {name: load_splits(*each) for name, each in sets.items()}
    for name, single in alone.items():
        part = splits.val.select([f"{name}/{clip_id}" for clip_id in single.val.clip_ids])
        np.testing.assert_array_equal(part.va.numpy(), single.val.va.numpy())
        np.testing.assert_array_equal(
            part.embeddings("visual").numpy(), single.val.embeddings("visual").numpy()
        )


def test_labels_are_brought_to_the_mean_and_deviation_of_the_first_set(sets, trained):
    maps = read_config(trained.run).train.label_maps
    assert [*maps] == ["second"]
    moments = []
    for manifest, _ in sets.values():
        clips = [clip for clip in read_manifest(manifest).clips if clip.split == "train"]
        labels = [read_labels(manifest.parent / clip.labels) for clip in clips]
        va = np.concatenate([each.va[each.valid] for each in labels])
        moments.append((va.mean(axis=0), va.std(axis=0)))
    (mean, deviation), (own_mean, own_deviation) = moments
    for k, (slope, offset) in enumerate((maps["second"].valence, maps["second"].arousal)):
        assert slope == pytest.approx(deviation[k] / own_deviation[k])
        assert own_mean[k] * slope + offset == pytest.approx(mean[k])


def test_valence_and_arousal_are_mapped_each_by_its_own_line():
    labels = Labels(np.array([[0.5, 0.5], [0.0, 0.0]]), np.array([True, False]))
    found = mapped(labels, LabelMap(valence=(0.5, 0.1), arousal=(0.25, -0.2)))
    by_hand = [[0.5 * 0.5 + 0.1, 0.25 * 0.5 - 0.2], [0, 0]]  # a row that is not annotated stays 0
    np.testing.assert_allclose(found.va, by_hand)


def test_each_set_has_a_score_on_its_own_scale(sets, trained):
    result = score_head(run=trained.run)

    assert [*result.by_set] == ["first", "second"]
    assert result.by_set["first"].ccc_mean > 0.5
    assert result.by_set["first"].ccc_mean != result.by_set["second"].ccc_mean
    config = read_config(trained.run)
    slope, offset = config.train.label_maps["second"].valence
    with (trained.run / PREDICTIONS).open() as lines:
        rows = [row for row in csv.DictReader(lines) if row["clip"].startswith("second/")]
    predicted = (np.array([float(row["valence"]) for row in rows]) - offset) / slope
    truth = []
    for clip in read_manifest(sets["second"][0]).clips:
        if clip.split == "val":
            n = sum(row["clip"] == f"second/{clip.id}" for row in rows)
            labels = read_labels(sets["second"][0].parent / clip.labels)
            truth.append(np.where(labels.valid, labels.va[:, 0], np.nan)[:n])
    truth = np.concatenate(truth)
    known = ~np.isnan(truth)
    x, y = truth[known], predicted[known]
    by_hand = 2 * np.cov(x, y, bias=True)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)
    assert result.by_set["second"].ccc_valence == pytest.approx(by_hand, abs=1e-4)

    again = score_head(run=trained.run)
    assert (again.state, again.by_set) == ("present", result.by_set)
    written = json.loads((trained.run / SCORES).read_text())
    assert [*written] == ["val", "val_by_set"]
    assert "Data set, on its own scale" in (trained.run / "report.html").read_text()


def test_one_set_of_a_run_can_be_scored_alone(sets, trained):
    manifest, store = sets["second"]
    alone = read_split(open_split(trained.run, manifest, store, "val"))
    together = read_split(open_split(trained.run, None, None, "val"))
    part = together.packed.select(["second/val-4", "second/val-5"])
    np.testing.assert_allclose(alone.packed.va.numpy(), part.va.numpy())


def test_an_epoch_is_scored_by_the_mean_over_the_sets(sets, trained):
    found = read_split(open_split(trained.run, None, None, "val"))
    scores = score_head(run=trained.run).by_set.values()
    mean = np.mean([score.ccc_mean for score in scores])
    assert mean_ccc_of_sets(found.prediction, found.packed)[2] == pytest.approx(mean)
    assert trained.kept.ccc_mean == pytest.approx(mean, abs=1e-6)


def test_a_finished_training_is_present_and_matched_maps_stay_in_its_config(sets, trained):
    settings = BRIEF.model_copy(update={"label_maps": "match"})
    assert train(sets, trained.run, train=settings).state == "present"
    assert train_head(**dict(read_config(trained.run))).state == "present"


def test_a_weight_changes_how_often_a_set_is_read_and_the_run(sets, tmp_path, monkeypatch):
    seen = []
    draw = passes.draw_windows

    def noted(windows, counts, rng):
        found = draw(windows, counts, rng)
        seen.append((len(windows), found.first_row))
        return found

    monkeypatch.setattr(passes, "draw_windows", noted)
    settings = BRIEF.model_copy(update={"epochs": 2, "set_weights": {"second": 2.5}})
    train(sets, tmp_path / "run", train=settings)
    n_all, rows = seen[0]
    n_first = int((rows < 4 * 130).sum())  # four clips of 130 rows each
    assert (n_first, len(rows) - n_first) == (n_all // 2, round(2.5 * n_all / 2))
    counts = np.unique(rows[n_first:], return_counts=True)[1]
    assert set(counts) == {2, 3}
    assert not np.array_equal(seen[0][1], seen[1][1])


def test_leaving_one_set_out_scores_it_with_heads_that_have_not_seen_it(sets, tmp_path):
    result = ablate(
        **both(sets),
        run=tmp_path / "out",
        variants="leave-one-set-out",
        seeds=1,
        head=HEAD,
        train=BRIEF.model_copy(update={"epochs": 2, "label_maps": "match"}),
        workers=1,
    )
    assert result.failed == ()
    assert [(row.group, row.row) for row in result.rows] == [
        ("on first", "trained on all sets"),
        ("on first", "trained without first"),
        ("on first", "trained on first alone"),
        ("on second", "trained on all sets"),
        ("on second", "trained on second alone"),
        ("on second", "trained without second"),
    ]
    folders = {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()}
    assert folders == {"first+second", "first", "second"}
    found = {(row.group, row.row): row.ccc_mean for row in result.rows}
    run = tmp_path / "out" / "second" / "seed-0"
    expected = score_head(run=run, **both(sets)).by_set["first"].ccc_mean
    assert found["on first", "trained without first"] == pytest.approx(expected)


@pytest.fixture(scope="module")
def silent(sets, tmp_path_factory) -> dict[str, tuple[Path, str]]:
    """Both sets, the second one without features of sound."""
    (first, (second, store)), folder = sets.values(), tmp_path_factory.mktemp("silent")
    shutil.copytree(store, folder / "s.zarr", ignore=shutil.ignore_patterns(AST_SPEC.name))
    return {"first": first, "second": (second, str(folder / "s.zarr"))}


def test_a_set_without_sound_is_joined_with_one_that_has_it(sets, silent, tmp_path):
    result = train(silent, tmp_path / "run")
    note = "the data set 'second' has no audio features: the stream 'audio' is masked in its rows"
    assert note in result.notes
    packed = load_splits(**both(silent)).val
    whole = load_splits(**both(sets)).val
    for clip_id, rows in packed.spans():
        heard, seen = (packed[stream].valid[rows] for stream in ("audio", "visual"))
        assert seen.any()
        assert heard.any() == clip_id.startswith("first/")
        if clip_id.startswith("first/"):
            part, expected = packed.select([clip_id]), whole.select([clip_id])
            np.testing.assert_array_equal(
                part.embeddings("audio").numpy(), expected.embeddings("audio").numpy()
            )
    scored = score_head(run=result.run)
    assert note in scored.notes
    assert scored.by_set["first"].ccc_arousal > 0.5  # arousal is in the voice
    assert scored.by_set["second"].ccc_valence > 0.5  # and valence in the face
    assert scored.by_set["second"].ccc_arousal < 0.5
    named = {"face": None, "audio": AST_SPEC.name}
    with pytest.raises(InputError, match="'face' has no feature set; give one of ast-"):
        load_splits(**both(silent), streams=named)
    named = {"visual": None, "voice": AST_SPEC.name}
    assert (
        load_splits(**both(silent), streams=named)
        .notes[-1]
        .endswith("'voice' is masked in its rows")
    )


def test_a_set_of_sound_alone_is_joined_on_the_rows_of_its_sound(sets, tmp_path):
    (first, store), (second, other) = sets.values()
    copy = tmp_path / "s.zarr"
    shutil.copytree(other, copy, ignore=shutil.ignore_patterns("clip-*"))
    for file in second.parent.glob("*.txt"):
        _, *rows = file.read_text().splitlines()
        timed = [f"{k * 0.04:.2f},{row}" for k, row in enumerate(rows)]
        (tmp_path / file.name).write_text("\n".join(["time_s,valence,arousal", *timed]) + "\n")
    heard = tmp_path / "heard.jsonl"
    write_manifest(heard, read_manifest(second).clips)
    inputs = {"manifest": (first, heard), "store": (store, str(copy))}
    packed = load_splits(**inputs).val
    n_rows = {clip_id: rows.stop - rows.start for clip_id, rows in packed.spans()}
    sound = FeatureStore.open(copy).read(AST_SPEC.name, "val-4")
    assert n_rows["heard/val-4"] == len(sound.time_s)
    assert not packed["visual"].valid[-n_rows["heard/val-5"] :].any()
    result = train_head(run=tmp_path / "run", head=HEAD, train=BRIEF, **inputs)
    assert score_head(run=result.run).by_set["heard"].ccc_arousal > 0.5
    first_alone = {"manifest": (heard, first), "store": (str(copy), store)}
    train_head(run=tmp_path / "other", head=HEAD, train=BRIEF, **first_alone)  # prompts are found
    with pytest.raises(InputError, match="'heard' .* has none of the streams visual; extract its"):
        load_splits(**inputs, streams={"visual": None})


def test_a_head_that_has_not_seen_the_set_without_sound_is_scored_on_it(silent, tmp_path):
    alone = dict(zip(("manifest", "store"), zip(silent["first"], strict=True), strict=True))
    result = train_head(run=tmp_path / "run", head=HEAD, train=BRIEF, **alone)
    assert [*score_head(run=result.run, **both(silent)).by_set] == ["first", "second"]


def test_baselines_are_fitted_to_all_sets(sets):
    ((_, score),) = score_baselines(**both(sets), baselines=(RidgeConfig(),)).scores
    assert score.n_clips == 4


def test_what_does_not_fit_together_is_named(sets, tmp_path):
    (first, store), (second, other) = sets.values()
    with pytest.raises(InputError, match="2 manifests and 3 stores; give a store for each"):
        data_sets((first, second), (store, other, other))
    copy = tmp_path / first.name
    shutil.copy(first, copy)
    with pytest.raises(InputError, match=r"two data sets are called 'first'.*rename one file"):
        data_sets((first, copy), store)
    with pytest.raises(InputError, match=r"set_weights names third, but the data sets are first"):
        train(sets, tmp_path / "a", train=TrainConfig(set_weights={"third": 2}))
    with pytest.raises(InputError, match=r"label_maps names x, but there is only one data set"):
        train_head(
            manifest=first,
            store=store,
            run=tmp_path / "b",
            train=TrainConfig(label_maps={"x": LabelMap()}),
        )
    with pytest.raises(InputError, match="needs several data sets; name them with manifest="):
        ablate(manifest=first, store=store, run=tmp_path / "c", variants="leave-one-set-out")
    with pytest.raises(InputError, match=r"train.unlabelled is for one data set"):
        train(sets, tmp_path / "d", train=TrainConfig(unlabelled=first))
    with pytest.raises(ValidationError, match="greater than 0"):
        LabelMap(valence=(0.0, 0.1))
    flat = [Labels(np.full((3, 2), 0.5), np.ones(3, bool))]
    varied = [Labels(np.arange(6.0).reshape(3, 2) / 6, np.ones(3, bool))]
    with pytest.raises(InputError, match="training labels of 'b' do not vary in valence"):
        matching_maps({"a": varied, "b": flat})


def test_a_set_without_a_split_labels_or_a_stream_is_named(sets, tmp_path):
    (first, store), (second, _) = sets.values()
    listed = read_manifest(second)
    trained_only = tmp_path / "third.jsonl"
    for file in second.parent.glob("*.txt"):
        shutil.copy(file, tmp_path)
    write_manifest(trained_only, [clip for clip in listed.clips if clip.split == "train"])
    with pytest.raises(InputError, match=r"data set 'third' \(.*third.jsonl\): .* split 'val'"):
        load_splits((first, trained_only), store)

    for file in tmp_path.glob("train-*.txt"):
        head, *rows = file.read_text().splitlines()
        file.write_text("\n".join([head, *("-5,-5" for _ in rows)]) + "\n")
    write_manifest(trained_only, listed.clips)
    with pytest.raises(InputError, match=r"split 'train' of the data set 'third' is annotated"):
        train_head(manifest=(first, trained_only), store=store, run=tmp_path / "run", head=HEAD)

    other = FeatureStore.open(tmp_path / "other.zarr", create=True)
    spec = AST_SPEC.model_copy(update={"sampling": {"hop_s": 0.5}})
    track = Track(np.zeros((3, 4), np.float16), np.arange(3.0), np.ones(3, bool))
    other.write(spec, "a", track, source={"video": "a"}, provenance={})
    with pytest.raises(
        InputError, match=r"have other features: .* with the same encoders, or name"
    ):
        load_splits((first, second), (store, str(other.path)))


@pytest.mark.parametrize("stage", ["train-ensemble", "learning-curve", "zero-shot"])
def test_a_stage_that_takes_one_data_set_says_which_take_several(sets, stage, tmp_path, capsys):
    manifests = ",".join(str(manifest) for manifest, _ in sets.values())
    result = "output" if stage == "zero-shot" else "run"
    words = [f"manifest=[{manifests}]", "store=s.zarr", f"{result}={tmp_path / 'r'}"]
    assert main(["run", stage, *words]) == 2
    assert "takes one data set; train-head, score-head, baselines" in capsys.readouterr().err
