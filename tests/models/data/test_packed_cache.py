import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from features.clip import Clip, Track
from features.errors import InputError, SpecMismatch, StoreError
from features.manifest.labels import read_labels
from features.manifest.manifest import Manifest, read_manifest
from features.store.feature_store import FeatureStore
from models.data.alignment import (
    check_clip_length,
    fill_between_samples,
    interpolate_track,
    pad_or_trim,
)
from models.data.feature_sets import open_sets, open_sets_of_head, records_digest
from models.data.packed import PackedFeatures
from models.data.packed_cache import load_packed
from models.data.splits import clips_of_split, digest_of_labels, read_all_labels
from models.data.statistics import statistics
from models.data.windows import dense_windows
from tests.helpers.synthetic import AST_SPEC, FRAME_S, N_FRAMES, STEP_S, WIDTH_AUDIO, Planted, plant
from tests.helpers.two_streams import changed


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Planted:
    return plant(tmp_path_factory.mktemp("planted"), ("train", "val", "test"))


@pytest.fixture(scope="module")
def sets(planted):
    return open_sets(planted.store)


@pytest.fixture(scope="module")
def packed(planted, sets) -> PackedFeatures:
    manifest = read_manifest(planted.manifest)
    return load_packed(sets, read_all_labels(manifest, manifest.clips, required=False))


def steps(time_s, values, valid=None) -> Track:
    values = np.asarray(values, dtype=np.float16)
    values = values if values.ndim == 2 else values[:, None]
    valid = np.ones(len(time_s), dtype=bool) if valid is None else np.asarray(valid)
    return Track(values, np.asarray(time_s, dtype=np.float64), valid)


def test_as_many_rows_as_frames_are_left_alone():
    frames = steps([0.0, 0.04, 0.09], [1, 2, 3])
    same = pad_or_trim(frames, 3)
    np.testing.assert_array_equal(same.values, frames.values)
    np.testing.assert_array_equal(same.time_s, frames.time_s)


def test_rows_beyond_the_last_frame_hold_it_a_median_step_apart():
    # steps .04 .04 .04 .1: median .04, mean .055
    longer = pad_or_trim(steps([0, 0.04, 0.08, 0.12, 0.22], [1, 2, 3, 4, 5]), 7)
    assert longer.values[:, 0].tolist() == [1, 2, 3, 4, 5, 5, 5]
    np.testing.assert_allclose(longer.time_s[-3:], [0.22, 0.26, 0.30])


def test_a_row_beyond_a_frame_without_a_face_has_none_either():
    longer = pad_or_trim(steps([0, 0.04], [1, 0], [True, False]), 3)
    assert longer.valid.tolist() == [True, False, False]


def test_frames_beyond_the_last_row_go():
    shorter = pad_or_trim(steps([0, 0.04, 0.08, 0.12], [1, 2, 3, 4]), 2)
    assert shorter.values[:, 0].tolist() == [1, 2]
    assert shorter.time_s.tolist() == [0, 0.04]


def test_a_single_frame_can_be_held():
    assert pad_or_trim(steps([0.5], [1]), 3).time_s.tolist() == pytest.approx([0.5, 0.54, 0.58])


@pytest.mark.parametrize(("n_frames", "n_rows"), [(8, 4), (4, 8), (0, 1)])
def test_rows_and_frames_too_far_apart_are_refused(n_frames, n_rows):
    with pytest.raises(InputError, match=f"{n_rows} label rows but {n_frames} video frames; they"):
        check_clip_length("c", n_rows, n_frames, 3)


def test_sound_between_two_centres():
    sound = interpolate_track(steps([0.05, 0.15], [[1, 10], [3, 20]]), np.array([0.075, 0.15]))
    # a quarter of the way: 1 + .25 * 2, 10 + .25 * 10
    np.testing.assert_allclose(sound.values, [[1.5, 12.5], [3, 20]])
    assert sound.valid.all()


def test_sound_holds_for_one_step_and_ends_there():
    at_s = np.array([-0.06, -0.04, 0.34, 0.36])
    sound = interpolate_track(steps([0.05, 0.15, 0.25], [1, 2, 3]), at_s)
    assert sound.values[:, 0].tolist() == [0, 1, 3, 0]
    assert sound.valid.tolist() == [False, True, True, False]


def test_sound_that_is_not_valid_spoils_no_neighbour():
    track = steps([0.0, 0.1, 0.2, 0.3], [1, 0, 3, 4], [True, False, True, True])
    sound = interpolate_track(track, np.array([0.0, 0.05, 0.15, 0.2, 0.25]))
    assert sound.valid.tolist() == [True, False, False, True, True]
    assert sound.values[:, 0].tolist() == [1, 0, 0, 3, 3.5]


def test_between_frames_that_were_looked_at_a_row_is_linear_and_no_face_is_made_up():
    # ten frames a second, every second one looked at; at .4 and .6 nobody was there
    time_s = np.arange(12) / 10
    looked = {0: 0, 2: 2, 8: 8, 10: 10}
    values = [looked.get(k, 0) for k in range(12)]
    track = steps(time_s, values, [k in looked for k in range(12)])
    found = fill_between_samples(track, 0.2)
    assert found.valid.tolist() == [True] * 3 + [False] * 5 + [True] * 4
    assert found.values[:, 0].tolist() == [0, 1, 2, 0, 0, 0, 0, 0, 8, 9, 10, 10]
    np.testing.assert_array_equal(found.time_s, time_s)
    # seen twice only, far apart: the last look holds until another is overdue
    twice = steps(time_s, [5 * (k in (0, 6)) for k in range(12)], [k in (0, 6) for k in range(12)])
    assert np.flatnonzero(fill_between_samples(twice, 0.25).valid).tolist() == [
        0,
        6,
        7,
        8,
        9,
    ]  # to .6 + .375
    nobody = steps(time_s, [0] * 12, [False] * 12)
    assert not fill_between_samples(nobody, 0.2).valid.any()


def test_a_long_sound_is_interpolated_to_its_end():
    rng = np.random.default_rng(0)
    heard = rng.random(300) < 0.9
    values = rng.standard_normal((300, 2)) * heard[:, None]
    track = steps(0.1 * np.arange(300), values, heard)
    at_s = np.arange(741) / 25  # more than two rounds of rows, and a part of one
    sound = interpolate_track(track, at_s)
    for column, found in zip(track.values.T, sound.values.T, strict=True):
        expected = np.interp(at_s, track.time_s, column)
        np.testing.assert_allclose(found[sound.valid], expected[sound.valid], atol=2e-3)
    assert 0.7 < sound.valid.mean() < 0.9
    assert not sound.values[~sound.valid].any()


def test_no_sound_is_invalid_everywhere():
    none = interpolate_track(steps([], np.zeros((0, 4))), np.array([0.0, 0.04]))
    assert none.values.shape == (2, 4)
    assert not none.valid.any()
    assert not none.values.any()


def test_a_single_step_of_sound_reaches_a_little():
    sound = interpolate_track(steps([0.5], [2]), np.array([0.3, 0.45, 0.5, 0.7]))
    assert sound.valid.tolist() == [False, True, True, False]


@given(
    st.lists(st.floats(0.01, 1), min_size=2, max_size=9),
    st.lists(st.floats(0, 5), min_size=1, max_size=9),
)
def test_a_sound_that_is_time_gives_the_time_back(gaps_s, at_s):
    centres_s = np.cumsum(gaps_s)
    at = np.sort(np.array(at_s)) + 1e-3 * np.arange(len(at_s))  # strictly increasing
    sound = interpolate_track(steps(centres_s, centres_s), at)
    inside = (at >= centres_s[0]) & (at <= centres_s[-1])
    assert sound.valid[inside].all()
    np.testing.assert_allclose(sound.values[inside, 0], at[inside], atol=5e-3)


def test_packed_rows_are_those_of_the_store_and_the_labels(planted, packed):
    store = FeatureStore.open(planted.store)
    assert packed.clip_ids == ("train-0", "val-1", "test-2")
    assert packed.offsets.tolist() == [0, N_FRAMES, 2 * N_FRAMES + 1, 3 * N_FRAMES + 1]
    spans = dict(packed.spans())
    for clip_id in ("train-0", "test-2"):
        track = store.read(planted.visual.name, clip_id)
        np.testing.assert_array_equal(packed["visual"].values[spans[clip_id]].numpy(), track.values)
        np.testing.assert_array_equal(packed.time_s[spans[clip_id]], track.time_s)
    labels = read_labels(planted.manifest.parent / "val-1.txt")
    np.testing.assert_array_equal(packed.va[spans["val-1"]].numpy(), labels.va)
    np.testing.assert_array_equal(packed.va_valid[spans["val-1"]].numpy(), labels.valid)
    assert not packed.va_valid[spans["test-2"]].any()


def test_the_awkward_clip_row_by_row(packed):
    span = dict(packed.spans())["val-1"]
    assert not packed["visual"].valid[span][40:46].any()  # its gap
    assert packed["visual"].valid[span].sum() == N_FRAMES + 1 - 6
    assert not packed.va_valid[span][10]  # its -5
    torch.testing.assert_close(
        packed["visual"].values[span][-1], packed["visual"].values[span][-2]
    )  # the row beyond
    assert packed.time_s[span][-1] == pytest.approx(FRAME_S * N_FRAMES)


def test_sound_lies_on_the_frames_times(planted, packed):
    track = FeatureStore.open(planted.store).read(AST_SPEC.name, "train-0")
    # frame 5 at .2 s lies midway between the centres .15 and .25
    expected = (track.values[1].astype("f4") + track.values[2].astype("f4")) / 2
    np.testing.assert_allclose(packed["audio"].values[5].float().numpy(), expected, atol=4e-3)
    assert STEP_S * 1.5 < packed.time_s[5] < STEP_S * 2.5


def test_gathering_pads_and_masks(packed):
    windows = dense_windows(packed.offsets, size=N_FRAMES + 4, stride=10)
    batch, targets = packed.gather(windows, np.array([1, 0]))
    assert batch["visual"].values.shape[:2] == (2, N_FRAMES + 4)
    padding = slice(N_FRAMES + 1, None)
    for mask in (batch["visual"].valid, batch["audio"].valid, targets.valid):
        assert not mask[0, padding].any()
    assert not batch["visual"].values[0, padding].any()
    assert not targets.va[0, padding].any()
    span = dict(packed.spans())["val-1"]
    torch.testing.assert_close(
        batch["visual"].values[0, : N_FRAMES + 1],
        packed["visual"].values[span].float(),
    )
    torch.testing.assert_close(targets.va[0, 9], packed.va[span][9].float())
    assert not targets.valid[0, 10]


def test_a_row_of_which_nothing_was_seen_or_heard_teaches_nothing(packed):
    visual_valid, audio_valid = (
        packed["visual"].valid.clone(),
        packed["audio"].valid.clone(),
    )
    visual_valid[:2], audio_valid[1:3] = False, False
    spoiled = changed(packed, visual_valid=visual_valid, audio_valid=audio_valid)
    windows = dense_windows(packed.offsets, size=4, stride=4)
    _, targets = spoiled.gather(windows, np.array([0]))
    assert targets.valid[0].tolist() == [True, False, True, True]
    assert not targets.va[0, 1].any()


def test_statistics_skip_what_was_not_seen():
    values = torch.tensor([[1.0, 5], [3, 5], [100, 100]], dtype=torch.float16)
    found = statistics(values, torch.tensor([True, True, False]))
    torch.testing.assert_close(found.mean, torch.tensor([2.0, 5.0]))
    torch.testing.assert_close(found.std, torch.tensor([1.0, 1.0]))  # the second is constant
    none = statistics(values, torch.zeros(3, dtype=torch.bool))
    assert none.mean.tolist() == [0, 0]
    assert none.std.tolist() == [1, 1]


def test_a_wrong_annotation_is_refused_by_name(planted, sets, tmp_path):
    (tmp_path / "short.txt").write_text("valence,arousal\n" + "0,0\n" * (N_FRAMES - 4))
    manifest = Manifest(tmp_path, (Clip(id="train-0", labels="short.txt"),))
    labels = read_all_labels(manifest, manifest.clips, required=True)
    message = rf"clip 'train-0': {N_FRAMES - 4} label rows but {N_FRAMES} .* at most 3.*correct it"
    with pytest.raises(InputError, match=message):
        load_packed(sets, labels)


def test_clips_without_features_are_listed(planted, sets):
    manifest = read_manifest(planted.manifest)
    more = tuple(Clip(id=f"new-{k}") for k in range(7))
    message = (
        rf"lacks features {planted.visual.name} of 7 of 10 clips "
        r"\(new-0, .*new-4 and 2 more\); run extract-features"
    )
    with pytest.raises(StoreError, match=message):
        records_digest(sets, [clip.id for clip in manifest.clips + more], planted.visual)


def test_digests_follow_the_content(planted, sets):
    clips = read_manifest(planted.manifest).clips
    ids = [clip.id for clip in clips]
    first = records_digest(sets, ids, AST_SPEC)
    track = sets.store.read(AST_SPEC.name, "test-2")
    sets.store.write(AST_SPEC, "test-2", track, source={"video": "2"}, provenance={"at": "noon"})
    assert records_digest(sets, ids, AST_SPEC) == first  # the same numbers
    louder = Track(track.values * 2, track.time_s, track.valid)
    sets.store.write(AST_SPEC, "test-2", louder, source={"video": "2"}, provenance={})
    assert records_digest(sets, ids, AST_SPEC) != first
    sets.store.write(AST_SPEC, "test-2", track, source={"video": "2"}, provenance={})
    labels = read_all_labels(read_manifest(planted.manifest), clips, required=False)
    assert digest_of_labels(labels) != digest_of_labels({**labels, "val-1": None})


def test_labels_are_required_for_training(planted):
    manifest = read_manifest(planted.manifest)
    with pytest.raises(InputError, match=r"1 clips to train on have no labels .*\(test-2\)"):
        read_all_labels(manifest, manifest.clips, required=True)


def test_an_empty_split_is_refused(planted):
    manifest = read_manifest(planted.manifest)
    only_train = Manifest(manifest.root, manifest.clips[:1])
    with pytest.raises(
        InputError, match="no clip of the split 'val', only of train; the nearest is"
    ):
        clips_of_split(only_train, "val")


def test_a_head_reads_every_set_of_a_store_or_those_that_are_named(tmp_path):
    planted = plant(tmp_path, ("train",))
    other = planted.visual.model_copy(update={"epoch": 2})
    store = FeatureStore.open(planted.store)
    track = store.read(planted.visual.name, "train-0")
    store.write(other, "train-0", track, source={}, provenance={})
    first, second = sorted([planted.visual.name, other.name])
    every = open_sets(planted.store).names
    assert every == {"visual": first, "clip": second, "audio": AST_SPEC.name}
    assert list(every) == ["visual", "clip", "audio"]
    message = f"several visual feature sets; choose one of {first}, {second} with streams.visual="
    with pytest.raises(InputError, match=message):
        open_sets(planted.store, {"visual": None, "audio": None})
    chosen = open_sets(planted.store, {"visual": other.name, "audio": None})
    assert chosen.specs == {"visual": other, "audio": AST_SPEC}
    backwards = open_sets(planted.store, {"voice": AST_SPEC.name, "face": other.name})
    assert backwards.modalities == {"voice": "audio", "face": "visual"}
    assert backwards.with_texts == ("face",)
    message = "holds no features 'ast-0' for the stream 'audio'; give one of .* with streams.audio="
    with pytest.raises(InputError, match=message):
        open_sets(planted.store, {"audio": "ast-0"})
    with pytest.raises(InputError, match="'face' has no feature set; give one of .* streams.face="):
        open_sets(planted.store, {"face": None})
    with pytest.raises(InputError, match=f"'a' and 'b' are both of the features {AST_SPEC.name};"):
        open_sets(planted.store, {"a": AST_SPEC.name, "b": AST_SPEC.name})
    with pytest.raises(InputError, match="streams names no feature set; leave it out"):
        open_sets(planted.store, {})


def test_a_store_without_features_is_refused_and_one_modality_is_enough(tmp_path):
    store = FeatureStore.open(tmp_path / "empty.zarr", create=True)
    with pytest.raises(InputError, match="no features of an encoder; run extract-features first"):
        open_sets(str(store.path))
    frames = steps(np.arange(3), np.ones((3, WIDTH_AUDIO)))
    store.write(AST_SPEC.model_copy(update={"kind": "clip"}), "a", frames, source={}, provenance={})
    assert list(open_sets(str(store.path)).specs) == ["visual"]
    with pytest.raises(InputError, match=r"no audio features, only clip-.* with an audio encoder"):
        open_sets(str(store.path), {"visual": None, "audio": None})


def test_features_of_another_spec_are_refused(planted):
    message = (
        rf"holds features of {AST_SPEC.name}, clip-.*, the head was trained on clip-0; extract"
    )
    with pytest.raises(SpecMismatch, match=message):
        open_sets_of_head(planted.store, {"visual": "clip-0", "audio": AST_SPEC.name})


def test_a_set_that_looked_at_some_frames_trains_on_every_row(tmp_path, planted):
    thinned = FeatureStore.open(tmp_path / "thin.zarr", create=True)
    whole = open_sets(planted.store)
    spec = planted.visual.model_copy(
        update={"sampling": {"rows": {"every": 3}, "time": "presentation"}}
    )
    manifest = read_manifest(planted.manifest)
    for clip in manifest.clips:
        track = whole.store.read(planted.visual.name, clip.id)
        looked = track.valid & (np.arange(len(track.valid)) % 3 == 0)
        few = Track(np.where(looked[:, None], track.values, np.float16(0)), track.time_s, looked)
        thinned.write(spec, clip.id, few, source={}, provenance={})
        sound = whole.store.read(AST_SPEC.name, clip.id)
        thinned.write(AST_SPEC, clip.id, sound, source={}, provenance={})
    labels = read_all_labels(manifest, manifest.clips, required=False)
    sets = open_sets(str(tmp_path / "thin.zarr"))
    found, wanted = load_packed(sets, labels), load_packed(whole, labels)
    np.testing.assert_array_equal(found.time_s, wanted.time_s)
    assert found["visual"].valid.float().mean() > 0.8 * wanted["visual"].valid.float().mean()
    assert found["visual"].valid.sum() > 2 * looked.mean() * len(found.time_s)
