"""Labels with times of their own: brought to the rows for training, scored at their own times."""

from dataclasses import replace

import numpy as np
import pytest

from features.errors import InputError
from features.manifest.labels import Labels
from features.manifest.manifest import read_manifest, write_manifest
from features.store.feature_store import FeatureStore
from models.data.feature_sets import open_sets
from models.data.packed import PackedFeatures
from models.data.packed_cache import load_packed
from models.data.splits import read_all_labels
from models.metrics.predict import Prediction, at_labels, concordance
from models.stages.score_head import score_head
from models.stages.train_head import train_head
from tests.helpers.small_heads import FULL, HEAD
from tests.helpers.synthetic import AST_SPEC, FRAME_S, N_FRAMES, Planted, plant

RATING_S = 0.1


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Planted:
    """The set with a rating every 0.1 s, which lags by 0.4 s, in place of one label per frame."""
    found = plant(tmp_path_factory.mktemp("timed"))
    manifest, clips = read_manifest(found.manifest), []
    labels = read_all_labels(manifest, manifest.clips, required=False)
    for clip in manifest.clips:
        if item := labels[clip.id]:
            _write_ratings(manifest.path(clip.labels), item)
        clips.append(clip.model_copy(update={"label_lag_s": 0.4 if item else 0.0}))
    write_manifest(found.manifest, clips)
    return found


def _write_ratings(path, labels: Labels) -> None:
    at_s = np.arange(0.0, N_FRAMES * FRAME_S, RATING_S)
    frame_s = FRAME_S * np.arange(len(labels.va))
    known = labels.valid
    va = np.stack(
        [np.interp(at_s, frame_s[known], column[known]) for column in labels.va.T], axis=1
    )
    rows = "".join(f"{t + 0.4:.3f},{v:.6f},{a:.6f}\n" for t, (v, a) in zip(at_s, va, strict=True))
    path.write_text("time_s,valence,arousal\n" + rows)


def load(planted: Planted, streams=None) -> tuple[PackedFeatures, dict[str, Labels | None]]:
    manifest = read_manifest(planted.manifest)
    labels = read_all_labels(manifest, manifest.clips, required=False)
    return load_packed(open_sets(planted.store, streams), labels), labels


def test_ratings_are_brought_to_the_frames_and_scored_at_their_own_times(planted):
    packed, labels = load(planted)
    again, _ = load(planted)  # from the packed file
    for each in (packed, again):
        spans = dict(each.spans())
        assert spans["val-6"].stop - spans["val-6"].start == N_FRAMES  # a row per frame
        ratings = labels["val-6"]
        expected = np.interp(each.time_s[spans["val-6"]], ratings.time_s - 0.4, ratings.va[:, 0])
        rows = slice(spans["val-6"].start, spans["val-6"].stop)
        valid = each.va_valid[rows].numpy()
        np.testing.assert_allclose(each.va[rows, 0].numpy()[valid], expected[valid], atol=1e-9)
        assert valid[: N_FRAMES - 3].all()
        n_ratings = sum(len(item.va) for item in labels.values() if item)
        right = Prediction(each.va.numpy(), np.zeros(len(each.time_s), bool))
        sums = concordance(right, each)
        assert sums.valence.n == n_ratings
        assert sums.ccc()[2] > 0.99
        truth, predicted = at_labels(right, each, spans["val-6"])
        assert len(truth) == len(ratings.va)
        np.testing.assert_allclose(predicted, truth, atol=0.05)
        assert concordance(right, each, spans["test-8"]).valence.n == 0
    chosen = packed.select(["val-6"])
    assert set(chosen.at_labels) >= {"val-6"}
    assert concordance(
        Prediction(chosen.va.numpy(), right.interpolated[:N_FRAMES]), chosen
    ).valence.n == len(ratings.va)


def test_a_label_for_each_frame_may_lag(planted):
    frames = Labels(np.linspace(-1, 1, 2 * N_FRAMES).reshape(-1, 2), np.ones(N_FRAMES, bool))
    lagging = replace(frames, lag_s=10 * FRAME_S)
    found = load_packed(open_sets(planted.store), {"val-7": lagging})
    np.testing.assert_allclose(found.va[:-10].numpy(), frames.va[10:], atol=1e-9)
    assert not found.va_valid[-9:].any()


@pytest.mark.slow
@pytest.mark.usefixtures("without_figures")
def test_a_store_of_sound_alone_trains_and_scores_on_ratings(planted, tmp_path):
    whole = FeatureStore.open(planted.store)
    alone = FeatureStore.open(tmp_path / "sound.zarr", create=True)
    for clip_id in whole.clip_ids(AST_SPEC.name):
        track = whole.read(AST_SPEC.name, clip_id)
        alone.write(AST_SPEC, clip_id, track, source={}, provenance={})
    head = HEAD.model_copy(update={"prompts": None})
    keys = {"manifest": planted.manifest, "store": str(alone.path), "head": head, "train": FULL}
    result = train_head(run=tmp_path / "run", **keys)
    assert result.kept.ccc_arousal > 0.9  # which is in the sound
    score = score_head(run=tmp_path / "run").score
    assert score.ccc_mean == pytest.approx(result.kept.ccc_mean)
    packed, _ = load(replace(planted, store=str(alone.path)))
    assert len(packed.time_s) < 9 * N_FRAMES / 2  # a row for each step of the sound


def test_labels_per_frame_need_the_frames(planted, tmp_path):
    alone = FeatureStore.open(tmp_path / "sound.zarr", create=True)
    track = FeatureStore.open(planted.store).read(AST_SPEC.name, "val-6")
    alone.write(AST_SPEC, "val-6", track, source={}, provenance={})
    per_frame = Labels(np.zeros((N_FRAMES, 2)), np.ones(N_FRAMES, bool))
    with pytest.raises(
        InputError, match="'val-6' has a label for each video frame, and .*sound.za"
    ):
        load_packed(open_sets(str(alone.path)), {"val-6": per_frame})
