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
from features.maintenance.statistics import compute, scan
from features.maintenance.statistics.compute import (
    PARTITIONS_AT_MOST,
    SetStatistics,
    partitions,
    statistics,
)
from features.maintenance.statistics.scan import EmptyClip, SetSummary, scan_records
from features.manifest.manifest import write_manifest
from features.store.feature_store import FeatureStore
from features.system.parallel import parallel_sum
from tests.helpers.small_stores import EMPTY, SOURCE, SPEC, ZEROS, make_track

pytestmark = pytest.mark.slow

AUDIO_SPEC = SPEC.model_copy(update={"kind": "ast"})
LENGTHS = (1, 2, 7, 30, 0, 12, 5, 9, 3)
TRACKS = {f"c{k}": make_track(n, seed=k) for k, n in enumerate(LENGTHS)}


def put(store: FeatureStore, clip: str, track: Track, spec=SPEC, note: str | None = None) -> None:
    store.write(spec, clip, track, source=SOURCE, provenance={}, note=note)


def write_store(root: Path, tracks: dict[str, Track] = TRACKS) -> FeatureStore:
    store = FeatureStore.open(root, create=True)
    for clip, track in tracks.items():
        put(store, clip, track, note=None if len(track.values) else "the clip has no sound")
    return store


@pytest.fixture(scope="module")
def shared_store(tmp_path_factory) -> FeatureStore:
    """A store that no test changes."""
    return write_store(tmp_path_factory.mktemp("shared") / "s.zarr")


@pytest.fixture
def store(tmp_path) -> FeatureStore:
    return write_store(tmp_path / "s.zarr")


def statistics_of(store: FeatureStore, **keys) -> SetStatistics:
    """The statistics of a store with one feature set."""
    (found,) = statistics(str(store.path), **keys)
    return found


def assert_sums_of(found: SetSummary, tracks: dict[str, Track]) -> None:
    """Compare with numpy on all rows of these tracks at once."""
    values = np.concatenate([t.values for t in tracks.values()]).astype(np.float64)
    valid = np.concatenate([t.valid for t in tracks.values()])
    assert (found.n_clips, found.n_rows, found.moments.n) == (len(tracks), len(valid), valid.sum())
    np.testing.assert_allclose(found.moments.mean, values[valid].mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.moments.std, values[valid].std(0), rtol=1e-12)
    np.testing.assert_array_equal(found.moments.low, values[valid].min(0))
    np.testing.assert_array_equal(found.moments.high, values[valid].max(0))
    assert found.duration_s == pytest.approx(len(valid) / 25)
    assert found.valid_s == pytest.approx(valid.sum() / 25)


def test_the_sums_are_those_of_numpy_over_all_rows(shared_store):
    found = statistics_of(shared_store)
    assert_sums_of(found.summary, TRACKS)
    assert found.valid_share == pytest.approx(found.summary.moments.n / sum(LENGTHS))
    assert (found.width, found.summary.damaged, found.summary.n_not_finite) == (3, (), 0)
    assert found.summary.empty == (EmptyClip("c4", 0, "the clip has no sound"),)
    files = [path for path in shared_store.path.glob("*/*/**/*") if path.is_file()]
    assert found.summary.n_bytes == sum(path.stat().st_size for path in files)


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(
    order=st.permutations(sorted(TRACKS)),
    cuts=st.lists(st.integers(0, len(TRACKS)), max_size=4),
    n_threads=st.integers(1, 3),
)
def test_order_partitions_and_threads_change_nothing(shared_store, order, cuts, n_threads):
    bounds = [0, *sorted(cuts), len(order)]
    parts = [order[a:b] for a, b in pairwise(bounds)]
    read = partial(
        scan_records, shared_store.backend, SPEC.name, width=3, on_mean_vector=lambda *_: None
    )
    assert_sums_of(parallel_sum(read, parts, n_threads), TRACKS)


def test_the_number_of_partitions_is_bounded_and_each_clip_is_in_one():
    for n in (0, 1, 16, 17, 1000, 100_000, 1_000_001):
        clips = [str(k) for k in range(n)]
        found = partitions(clips)
        assert len(found) <= PARTITIONS_AT_MOST
        assert [clip for part in found for clip in part.clips] == clips
        assert all(clips[part.first] == part.clips[0] for part in found)


def test_a_record_of_many_chunks_is_read_chunk_by_chunk(tmp_path):
    # 2048 rows of 1024 numbers are a chunk of 4 MiB; the first half of the rows is not valid
    track = make_track(5000, 1024)
    track.valid[:2500], track.values[:2500] = False, 0
    assert_sums_of(
        statistics_of(write_store(tmp_path / "s.zarr", {"long": track}), n_pairs=0).summary,
        {"long": track},
    )


def peak_bytes(store: FeatureStore) -> int:
    """The most memory that a pass by one thread uses at a time."""
    statistics_of(store, n_threads=1)  # imports what is imported once
    tracemalloc.start()
    statistics_of(store, n_threads=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_depends_neither_on_the_number_of_records_nor_on_their_length(tmp_path):
    short, long = make_track(2048, 1024), make_track(5 * 2048, 1024)  # 4 and 20 MiB
    few = peak_bytes(write_store(tmp_path / "few.zarr", {"a": short}))
    many = peak_bytes(write_store(tmp_path / "many.zarr", {f"c{k}": short for k in range(20)}))
    one = peak_bytes(write_store(tmp_path / "one.zarr", {"a": long}))
    assert max(many, one) < few + 4 * 2**20


def test_a_row_lasts_until_the_next_and_the_last_as_long_as_the_median(tmp_path):
    # steps .1, .1, .4, and for the last row their median .1; the third row is not valid
    track = make_track(4)
    time_s, valid = np.array([2, 2.1, 2.2, 2.6]), np.array([True, True, False, True])
    values = np.where(valid[:, None], track.values, np.float16(0))
    found = statistics_of(
        write_store(tmp_path / "s.zarr", {"a": Track(values, time_s, valid)})
    ).summary
    assert (found.duration_s, found.valid_s) == (pytest.approx(0.7), pytest.approx(0.3))


def test_a_clip_without_a_valid_row_is_empty_and_in_no_pair(tmp_path):
    tracks = {"a": make_track(), "empty": EMPTY, "copy": make_track(), "invalid": ZEROS}
    found = statistics_of(write_store(tmp_path / "s.zarr", tracks))
    assert [(each.clip, each.n_rows) for each in found.summary.empty] == [
        ("empty", 0),
        ("invalid", 4),
    ]
    assert [(p.first, p.second, p.cosine) for p in found.nearest] == [("a", "copy", 1)]
    assert (found.nearest[0].is_likely, found.n_likely) == (True, 1)


def test_a_set_without_a_valid_row_has_no_dimensions(tmp_path):
    found = statistics_of(write_store(tmp_path / "s.zarr", {"empty": EMPTY}))
    printed = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert printed["dimensions"] == {"mean": [], "std": [], "low": [], "high": []}
    assert (printed["coverage"], printed["nearest"], printed["dead"]) == (None, [], [])


def test_the_nearest_clips_are_those_with_the_highest_cosine_of_their_means(tmp_path):
    tracks = {f"c{k}": make_track(40, 16, seed=k) for k in range(6)}
    original = tracks["c1"]
    values = (original.values + np.float16(1e-3) * original.valid[:, None]).astype(np.float16)
    tracks["near-copy"] = Track(values, original.time_s, original.valid)
    found = statistics_of(write_store(tmp_path / "s.zarr", tracks), n_pairs=2)
    assert {found.nearest[0].first, found.nearest[0].second} == {"c1", "near-copy"}
    means = {k: t.values[t.valid].astype(float).mean(0) for k, t in tracks.items()}
    a, b = (means[name] for name in (found.nearest[1].first, found.nearest[1].second))
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert found.nearest[1].cosine == pytest.approx(cosine, abs=2e-6)
    assert len(found.nearest) == 2
    assert statistics_of(write_store(tmp_path / "s.zarr", tracks), n_pairs=0).nearest == ()


def test_a_dimension_with_the_same_value_in_all_valid_rows_is_dead(tmp_path):
    values = make_track(8).values
    values[:, 1] = 0.5
    values[1] = 0  # not valid, so its zeros do not count
    track = Track(values, np.arange(8.0), make_track(8).valid)
    found = statistics_of(write_store(tmp_path / "s.zarr", {"a": track, "b": track}))
    assert found.as_json()["dead"] == [1]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(bytes(data))


def change_chunk(record: Path) -> None:
    flip(record / "values/c/0/0")


def change_metadata(record: Path) -> None:
    flip(record / "time_s/zarr.json")


def remove_commit(record: Path) -> None:
    (record / "zarr.json").unlink()


def remove_chunk(record: Path) -> None:
    (record / "valid/c/0").unlink()


def cut_commit(record: Path) -> None:
    (record / "zarr.json").write_text("{")


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (change_chunk, "values/c/0/0 was changed"),
        (change_metadata, "time_s/zarr.json was changed"),
        (remove_commit, "zarr.json is missing: the folder is no record"),
        (remove_chunk, "valid/c/0 is missing"),
        (cut_commit, "is damaged"),
    ],
)
def test_a_damaged_record_is_listed_and_left_out(store, damage, what):
    damage(store.folder(SPEC.name, "c3"))
    found = statistics_of(store).summary
    (damaged,) = found.damaged
    assert damaged.clip == "c3"
    assert what in damaged.what
    assert_sums_of(found, {clip: track for clip, track in TRACKS.items() if clip != "c3"})


def invalid_track(name: str, values: np.ndarray) -> Track:
    """A track that breaks a rule of `Track`."""
    track = make_track(30)
    object.__setattr__(track, name, values)
    return track


def test_values_that_are_not_finite_are_counted_and_their_record_left_out(store):
    values = make_track(30).values
    values[[3, 7], 1], values[20, 0] = np.nan, np.inf
    put(store, "c3", invalid_track("values", values))
    found = statistics_of(store)
    assert found.summary.n_not_finite == 3
    assert found.summary.damaged[0].what == "3 of its numbers are not finite"
    assert_sums_of(found.summary, {clip: track for clip, track in TRACKS.items() if clip != "c3"})


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("values", np.ones((30, 3), np.float16), "values must be 0 where valid is false"),
        ("time_s", np.arange(30.0) % 20, "time_s must increase strictly; it does not at row 20"),
        ("time_s", np.full(30, np.nan), "time_s must be finite"),
    ],
)
def test_a_record_that_is_no_track_is_left_out(store, name, value, what):
    put(store, "c3", invalid_track(name, value))
    assert [each.what for each in statistics_of(store).summary.damaged] == [what]


def test_rows_of_another_width_are_left_out(store):
    put(store, "c9", make_track(4, 5))
    (damaged,) = statistics_of(store).summary.damaged
    assert damaged.what == "its rows have 5 numbers, those of the set's first clip 3"


def test_if_no_record_is_sound_all_are_listed(tmp_path):
    store = write_store(tmp_path / "s.zarr", {"a": make_track(), "b": make_track()})
    for clip in "ab":
        (store.folder(SPEC.name, clip) / "values/zarr.json").write_text("{}")
    found = statistics_of(store)
    assert [each.clip for each in found.summary.damaged] == ["a", "b"]
    assert (found.summary.n_clips, found.nearest) == (0, ())


def test_a_record_that_is_replaced_while_it_is_read_is_read_again(shared_store, monkeypatch):
    real, failed = scan.read_commit, []

    def read_commit(folder: Path):
        if folder.name == "c3" and not failed:
            failed.append(folder)
            raise FileNotFoundError(folder)
        return real(folder)

    monkeypatch.setattr(scan, "read_commit", read_commit)
    assert_sums_of(statistics_of(shared_store).summary, TRACKS)
    assert failed


def test_the_coverage_of_a_manifest_counts_sound_records(store):
    change_chunk(store.folder(SPEC.name, "c3"))
    manifest = store.path.with_name("m.jsonl")
    write_manifest(manifest, [Clip(id=clip) for clip in ("c0", "c3", "c4", "none")])
    coverage = statistics_of(store, manifest=manifest).manifest_coverage
    assert (coverage.n_clips, coverage.missing, coverage.share) == (4, ("c3", "none"), 0.5)


def test_only_the_named_sets_are_read(store):
    put(store, "c0", make_track(), spec=AUDIO_SPEC)
    assert [s.spec for s in statistics(str(store.path))] == [AUDIO_SPEC.name, SPEC.name]
    (found,) = statistics(str(store.path), [AUDIO_SPEC.name])
    assert (found.spec, found.modality, found.summary.n_clips) == (AUDIO_SPEC.name, "audio", 1)
    with pytest.raises(InputError, match=f"no feature set 'clip-1'; the nearest is '{SPEC.name}'"):
        statistics(str(store.path), ["clip-1"])


def test_a_missing_store_or_set_and_a_negative_number_are_input_errors(tmp_path):
    FeatureStore.open(tmp_path / "s.zarr", create=True)
    with pytest.raises(InputError, match="no feature set yet; `vaflow run extract-features`"):
        statistics(str(tmp_path / "s.zarr"))
    with pytest.raises(InputError, match="there is no feature store at"):
        statistics(str(tmp_path / "none.zarr"))
    with pytest.raises(InputError, match="pairs = -1: it must be 0 or more"):
        statistics(str(tmp_path / "s.zarr"), n_pairs=-1)


def test_several_partitions_give_the_same_result_and_report_their_progress(
    shared_store, monkeypatch
):
    by_one_partition = statistics_of(shared_store)
    monkeypatch.setattr(compute, "CLIPS_AT_LEAST", 2)
    progress = []
    found = statistics_of(
        shared_store, n_threads=2, on_progress=lambda *counts: progress.append(counts)
    )
    assert_sums_of(found.summary, TRACKS)
    assert found.nearest == by_one_partition.nearest
    assert sorted(n for _, n in progress) == [9] * 5
    assert progress[-1] == (9, 9)
