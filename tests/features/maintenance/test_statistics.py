import json
import tracemalloc
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.clip import Clip, Track
from features.errors import InputError
from features.maintenance.statistics import compute as passing
from features.maintenance.statistics import scan as survey
from features.maintenance.statistics.compute import PARTITIONS_AT_MOST, partitions, statistics
from features.maintenance.statistics.scan import EmptyClip, SetSummary, scan_records
from features.manifest.manifest import write_manifest
from features.store.feature_store import FeatureStore
from features.system.parallel import parallel_sum
from tests.helpers.small_stores import EMPTY, SOURCE, SPEC, ZEROS, make_track

SOUND = SPEC.model_copy(update={"kind": "ast"})
LENGTHS = (1, 2, 7, 30, 0, 12, 5, 9, 3)
TRACKS = {f"c{k}": make_track(n, seed=k) for k, n in enumerate(LENGTHS)}


def put(store: FeatureStore, clip: str, track: Track, spec=SPEC, note: str | None = None) -> None:
    store.write(spec, clip, track, source=SOURCE, provenance={}, note=note)


def made(root: Path, tracks: dict[str, Track] = TRACKS) -> FeatureStore:
    store = FeatureStore.open(root, create=True)
    for clip, track in tracks.items():
        put(store, clip, track, note=None if len(track.values) else "the clip has no sound")
    return store


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> FeatureStore:
    """A store that no test changes."""
    return made(tmp_path_factory.mktemp("whole") / "s.zarr")


@pytest.fixture
def store(tmp_path) -> FeatureStore:
    return made(tmp_path / "s.zarr")


def only(store: FeatureStore, **keys):
    """The statistics of the one set."""
    (found,) = statistics(str(store.path), **keys)
    return found


def holds(found: SetSummary, tracks: dict[str, Track]) -> None:
    """Compare with all rows of these tracks at once."""
    values = np.concatenate([t.values for t in tracks.values()]).astype(np.float64)
    valid = np.concatenate([t.valid for t in tracks.values()])
    assert (found.n_clips, found.n_rows, found.moments.n) == (len(tracks), len(valid), valid.sum())
    np.testing.assert_allclose(found.moments.mean, values[valid].mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.moments.std, values[valid].std(0), rtol=1e-12)
    np.testing.assert_array_equal(found.moments.low, values[valid].min(0))
    np.testing.assert_array_equal(found.moments.high, values[valid].max(0))
    assert found.seconds == pytest.approx(len(valid) / 25)
    assert found.covered_s == pytest.approx(valid.sum() / 25)


def test_it_is_what_numpy_finds_in_all_rows(whole):
    found = only(whole)
    holds(found.survey, TRACKS)
    assert found.coverage == pytest.approx(found.survey.moments.n / sum(LENGTHS))
    assert (found.width, found.survey.damaged, found.survey.n_not_finite) == (3, (), 0)
    assert found.survey.blank == (EmptyClip("c4", 0, "the clip has no sound"),)
    files = [path for path in whole.path.glob("*/*/**/*") if path.is_file()]
    assert found.survey.n_bytes == sum(path.stat().st_size for path in files)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    order=st.permutations(sorted(TRACKS)),
    cuts=st.lists(st.integers(0, len(TRACKS)), max_size=4),
    n_threads=st.integers(1, 3),
)
def test_neither_order_nor_partitions_nor_threads_change_it(whole, order, cuts, n_threads):
    bounds = [0, *sorted(cuts), len(order)]
    parts = [order[a:b] for a, b in pairwise(bounds)]
    read = partial(scan_records, whole.backend, SPEC.name, width=3, on_direction=lambda *_: None)
    holds(parallel_sum(read, parts, n_threads), TRACKS)


def test_partitions_are_bounded_and_have_every_clip_once():
    for n in (0, 1, 16, 17, 1000, 100_000, 1_000_001):
        clips = [str(k) for k in range(n)]
        found = partitions(clips)
        assert len(found) <= PARTITIONS_AT_MOST
        assert [clip for part in found for clip in part.clips] == clips
        assert all(clips[part.first] == part.clips[0] for part in found)


def test_a_record_of_many_chunks_is_read_chunk_by_chunk(tmp_path):
    # 2048 rows of 1024 numbers are a chunk of 4 MiB; two chunks and a bit, the first half not seen
    track = make_track(5000, 1024)
    track.valid[:2500], track.values[:2500] = False, 0
    holds(only(made(tmp_path / "s.zarr", {"long": track}), n_pairs=0).survey, {"long": track})


def peak(store: FeatureStore) -> int:
    """The most bytes that a pass by one thread has at a time."""
    only(store, n_threads=1)  # what is loaded once
    tracemalloc.start()
    only(store, n_threads=1)
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


def test_memory_depends_neither_on_how_many_nor_on_how_long(tmp_path):
    short, long = make_track(2048, 1024), make_track(5 * 2048, 1024)  # 4 and 20 MiB
    few = peak(made(tmp_path / "few.zarr", {"a": short}))
    many = peak(made(tmp_path / "many.zarr", {f"c{k}": short for k in range(20)}))
    one = peak(made(tmp_path / "one.zarr", {"a": long}))
    assert max(many, one) < few + 4 * 2**20


def test_seconds_follow_the_clock_of_each_clip(tmp_path):
    # steps .1, .1, .4, and for the last row their median .1; the third row is not seen
    track = make_track(4)
    time_s, valid = np.array([2, 2.1, 2.2, 2.6]), np.array([True, True, False, True])
    values = np.where(valid[:, None], track.values, np.float16(0))
    found = only(made(tmp_path / "s.zarr", {"a": Track(values, time_s, valid)})).survey
    assert (found.seconds, found.covered_s) == (pytest.approx(0.7), pytest.approx(0.3))


def test_a_clip_without_a_valid_row_is_blank_and_in_no_pair(tmp_path):
    tracks = {"a": make_track(), "empty": EMPTY, "twin": make_track(), "unseen": ZEROS}
    found = only(made(tmp_path / "s.zarr", tracks))
    assert [(b.clip, b.n_rows) for b in found.survey.blank] == [("empty", 0), ("unseen", 4)]
    assert [(p.first, p.second, p.cosine) for p in found.nearest] == [("a", "twin", 1)]
    assert (found.nearest[0].is_likely, found.n_likely) == (True, 1)


def test_a_set_without_a_valid_row_has_no_dimensions(tmp_path):
    found = only(made(tmp_path / "s.zarr", {"empty": EMPTY}))
    said = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert said["dimensions"] == {"mean": [], "std": [], "low": [], "high": []}
    assert (said["coverage"], said["nearest"], said["dead"]) == (None, [], [])


def test_the_nearest_clips_are_those_whose_means_point_the_same_way(tmp_path):
    tracks = {f"c{k}": make_track(40, 16, seed=k) for k in range(6)}
    one = tracks["c1"]
    values = (one.values + np.float16(1e-3) * one.valid[:, None]).astype(np.float16)
    tracks["once-more"] = Track(values, one.time_s, one.valid)
    found = only(made(tmp_path / "s.zarr", tracks), n_pairs=2)
    assert {found.nearest[0].first, found.nearest[0].second} == {"c1", "once-more"}
    means = {k: t.values[t.valid].astype(float).mean(0) for k, t in tracks.items()}
    a, b = (means[name] for name in (found.nearest[1].first, found.nearest[1].second))
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert found.nearest[1].cosine == pytest.approx(cosine, abs=2e-6)
    assert len(found.nearest) == 2
    assert only(made(tmp_path / "s.zarr", tracks), n_pairs=0).nearest == ()


def test_what_is_the_same_in_all_valid_rows_is_dead(tmp_path):
    values = make_track(8).values
    values[:, 1] = 0.5
    values[1] = 0  # not valid: a zero that does not count
    track = Track(values, np.arange(8.0), make_track(8).valid)
    found = only(made(tmp_path / "s.zarr", {"a": track, "b": track}))
    assert found.as_json()["dead"] == [1]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(bytes(data))


def spoil_chunk(record: Path) -> None:
    flip(record / "values/c/0/0")


def spoil_metadata(record: Path) -> None:
    flip(record / "time_s/zarr.json")


def lose_commit(record: Path) -> None:
    (record / "zarr.json").unlink()


def lose_chunk(record: Path) -> None:
    (record / "valid/c/0").unlink()


def spoil_commit(record: Path) -> None:
    (record / "zarr.json").write_text("{")


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (spoil_chunk, "values/c/0/0 was changed"),
        (spoil_metadata, "time_s/zarr.json was changed"),
        (lose_commit, "zarr.json is missing: the folder is no record"),
        (lose_chunk, "valid/c/0 is missing"),
        (spoil_commit, "is damaged"),
    ],
)
def test_a_damaged_record_is_named_and_left_out(store, spoil, what):
    spoil(store.folder(SPEC.name, "c3"))
    found = only(store).survey
    (damaged,) = found.damaged
    assert damaged.clip == "c3"
    assert what in damaged.what
    holds(found, {clip: track for clip, track in TRACKS.items() if clip != "c3"})


def tampered(name: str, values: np.ndarray) -> Track:
    """A track that `Track` itself would refuse."""
    track = make_track(30)
    object.__setattr__(track, name, values)
    return track


def test_what_is_not_finite_is_counted_and_its_record_left_out(store):
    values = make_track(30).values
    values[[3, 7], 1], values[20, 0] = np.nan, np.inf
    put(store, "c3", tampered("values", values))
    found = only(store)
    assert found.survey.n_not_finite == 3
    assert found.survey.damaged[0].what == "3 of its numbers are not finite"
    holds(found.survey, {clip: track for clip, track in TRACKS.items() if clip != "c3"})


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("values", np.ones((30, 3), np.float16), "values must be 0 where valid is false"),
        ("time_s", np.arange(30.0) % 20, "time_s must increase strictly; it does not at row 20"),
        ("time_s", np.full(30, np.nan), "time_s must be finite"),
    ],
)
def test_what_no_later_stage_takes_is_left_out(store, name, value, what):
    put(store, "c3", tampered(name, value))
    assert [each.what for each in only(store).survey.damaged] == [what]


def test_rows_of_another_width_are_left_out(store):
    put(store, "c9", make_track(4, 5))
    (damaged,) = only(store).survey.damaged
    assert damaged.what == "its rows have 5 numbers, those of the set's first clip 3"


def test_where_no_record_is_sound_all_are_named(tmp_path):
    store = made(tmp_path / "s.zarr", {"a": make_track(), "b": make_track()})
    for clip in "ab":
        (store.folder(SPEC.name, clip) / "values/zarr.json").write_text("{}")
    found = only(store)
    assert [each.clip for each in found.survey.damaged] == ["a", "b"]
    assert (found.survey.n_clips, found.nearest) == (0, ())


def test_a_record_that_is_replaced_while_it_is_read_is_read_again(whole, monkeypatch):
    read, met = survey.read_commit, []

    def gone(folder: Path):
        if folder.name == "c3" and not met:
            met.append(folder)
            raise FileNotFoundError(folder)
        return read(folder)

    monkeypatch.setattr(survey, "read_commit", gone)
    holds(only(whole).survey, TRACKS)
    assert met


def test_the_share_of_a_manifest_counts_sound_records(store):
    spoil_chunk(store.folder(SPEC.name, "c3"))
    manifest = store.path.with_name("m.jsonl")
    write_manifest(manifest, [Clip(id=clip) for clip in ("c0", "c3", "c4", "none")])
    share = only(store, manifest=manifest).share
    assert (share.n_clips, share.missing, share.share) == (4, ("c3", "none"), 0.5)


def test_only_the_sets_that_are_asked_for_are_read(store):
    put(store, "c0", make_track(), spec=SOUND)
    assert [s.spec for s in statistics(str(store.path))] == [SOUND.name, SPEC.name]
    (found,) = statistics(str(store.path), [SOUND.name])
    assert (found.spec, found.modality, found.survey.n_clips) == (SOUND.name, "audio", 1)
    with pytest.raises(InputError, match=f"no feature set 'clip-1'; the nearest is '{SPEC.name}'"):
        statistics(str(store.path), ["clip-1"])


def test_where_there_is_nothing_one_is_told(tmp_path):
    FeatureStore.open(tmp_path / "s.zarr", create=True)
    with pytest.raises(InputError, match="no feature set yet; `vaflow run extract-features`"):
        statistics(str(tmp_path / "s.zarr"))
    with pytest.raises(InputError, match="there is no feature store at"):
        statistics(str(tmp_path / "none.zarr"))
    with pytest.raises(InputError, match="pairs = -1: how many to list, 0 or more"):
        statistics(str(tmp_path / "s.zarr"), n_pairs=-1)


def test_of_several_partitions_all_is_found_and_heard(whole, monkeypatch):
    at_once = only(whole)
    monkeypatch.setattr(passing, "CLIPS_AT_LEAST", 2)
    heard = []
    found = only(whole, n_threads=2, on_clips=lambda *said: heard.append(said))
    holds(found.survey, TRACKS)
    assert found.nearest == at_once.nearest
    assert sorted(n for _, n in heard) == [9] * 5
    assert heard[-1] == (9, 9)
