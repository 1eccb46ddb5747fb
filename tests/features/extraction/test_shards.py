"""How clips are dealt into shards, and the result of an extraction in shards."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.clip import Clip, Source
from features.encoders.clip import ClipConfig
from features.errors import InputError
from features.extraction.batching import pad_batch
from features.extraction.extract import extract_features
from features.extraction.options import ExtractionOptions
from features.extraction.outcome import Outcome
from features.extraction.plan import plan_extraction
from features.extraction.runtime import Runtime
from features.extraction.shards import (
    MAX_CLIPS,
    MAX_SHARDS,
    MIN_CLIPS,
    ShardStream,
    deal_shards,
    media_bytes,
    plan_shards,
    result_in_store,
)
from features.manifest.manifest import read_manifest, write_manifest
from tests.helpers.small_media import tone


@given(st.lists(st.integers(0, 10**9), max_size=700), st.integers(1, 40))
def test_every_clip_is_in_one_shard_and_shards_have_similar_sizes_and_weights(weights, n_workers):
    shards = deal_shards(weights, n_workers)
    assert sorted(index for shard in shards for index in shard) == list(range(len(weights)))
    sizes = [len(shard) for shard in shards]
    if weights:
        assert max(sizes) - min(sizes) <= 1
        assert max(sizes) <= MAX_CLIPS
        assert min(sizes) >= min(MIN_CLIPS, len(weights))
    if weights and len(weights) % len(shards) == 0:
        sums = [sum(weights[index] for index in shard) for shard in shards]
        assert max(sums) - min(sums) <= max(weights) - min(weights)


def test_weights_are_dealt_in_alternating_order():
    shards = deal_shards(list(range(1, 33)), 2)
    # 32 to the first, 31 and 30 to the second, 29 and 28 to the first ...: each half of 528
    assert [sum(index + 1 for index in shard) for shard in shards] == [264, 264]


def test_the_number_of_shards_grows_with_clips_and_workers_up_to_a_maximum():
    assert len(deal_shards([1] * 200, 1)) == 4  # 50 clips each
    assert len(deal_shards([1] * 200, 2)) == 8
    assert len(deal_shards([1] * 200, 40)) == 12  # of 16 or 17
    assert len(deal_shards([1] * 40, 2)) == 2
    assert len(deal_shards([1] * 3, 2)) == 1
    assert len(deal_shards([1] * 100_000, 8)) == MAX_SHARDS


def test_the_weight_of_a_clip_is_the_size_of_its_media(tmp_path, make_crops):
    (tmp_path / "v.mp4").write_bytes(b"v" * 700)
    (tmp_path / "a.wav").write_bytes(b"a" * 50)
    crops = make_crops([1, 2])
    n_bytes = sum(path.stat().st_size for path in crops.iterdir())
    source = Source("c", tmp_path / "v.mp4", crops, tmp_path / "a.wav", None)
    assert media_bytes(source) == 700
    assert media_bytes(replace(source, video=None)) == 50
    assert media_bytes(replace(source, video=None, audio=None)) == n_bytes
    assert media_bytes(replace(source, video=tmp_path / "none.mp4")) == 0


@pytest.fixture
def options(tmp_path, tiny_clip):
    encoders = (ClipConfig(**tiny_clip),)
    return ExtractionOptions(str(tmp_path / "s.zarr"), encoders, device="cpu", readers=1)


@pytest.fixture
def manifest(tmp_path, make_video) -> Path:
    """Three clips, the last of which cannot be decoded."""
    for name in ("a", "b"):
        make_video(f"{name}.mp4", time_s=np.arange(12) / 25, sound=tone(0.5))
    (tmp_path / "c.mp4").write_text("no video")
    clips = [Clip(id=name, video=f"{name}.mp4") for name in "abc"]
    write_manifest(tmp_path / "m.jsonl", clips)
    return tmp_path / "m.jsonl"


def states(outcomes) -> dict[str, str]:
    return {outcome.clip: outcome.state for outcome in outcomes}


def planned(manifest, options):
    """A plan, and its shards for one worker."""
    plan = plan_extraction(read_manifest(manifest), options)
    return plan, plan_shards(plan, 1)


ENDS = {"a": "extracted", "b": "extracted", "c": "quarantined"}


def test_the_store_decides_how_a_clip_ended_not_the_report_of_its_shard(manifest, options, runtime):
    plan, (shard,) = planned(manifest, options)
    name = options.encoders[0].spec().name
    nothing = result_in_store(plan, (), ["its worker died"], 0.0).outcomes
    assert states(nothing) == dict.fromkeys("abc", "failed")
    assert {outcome.detail for outcome in nothing} == {
        "its shard was lost (its worker died); run the same again"
    }
    progress = []
    reported = shard.extract(runtime, progress.append).outcomes
    assert tuple(progress) == reported
    assert states(result_in_store(plan, reported, (), 0.0).outcomes) == ENDS
    without_report = result_in_store(plan, (), (), 0.0)
    assert states(without_report.outcomes) == ENDS
    assert {outcome.reason for outcome in without_report.outcomes} == {"new"}
    false_report = Outcome("c", name, "extracted", n_rows=12, reason="new")
    assert states(result_in_store(plan, (false_report,), (), 0.0).outcomes) == ENDS
    again, shards = planned(manifest, options)
    assert shards == ()
    assert states(result_in_store(again, (), (), 0.0).outcomes) == {
        "a": "present",
        "b": "present",
        "c": "quarantined",
    }


def test_forced_clips_that_were_not_extracted_again_have_failed(manifest, options, runtime):
    planned(manifest, options)[1][0].extract(runtime, lambda _: None)
    plan, (shard,) = planned(manifest, replace(options, force=True))
    not_started = result_in_store(plan, (), (), 0.0).outcomes
    assert states(not_started) == dict.fromkeys("abc", "failed")
    assert not_started[0].detail == "it was not started: the run was stopped; run the same again"
    reported = shard.extract(runtime, lambda _: None).outcomes
    assert states(result_in_store(plan, reported, (), 0.0).outcomes) == ENDS


def test_a_shard_of_a_stopped_run_loads_no_encoder(manifest, options, runtime, monkeypatch):
    _, (shard,) = planned(manifest, options)
    monkeypatch.setattr(Runtime, "encoder", lambda *_: pytest.fail("weights were loaded"))
    assert shard.extract(runtime, lambda _: None, lambda: False).outcomes == ()


def test_each_shard_of_a_run_limited_to_some_clips_extracts_its_own(
    manifest, options, runtime, monkeypatch
):
    monkeypatch.setattr("features.extraction.shards.MAX_CLIPS", 1)
    _, shards = planned(manifest, replace(options, only=("a", "b")))
    results = [shard.extract(runtime, lambda _: None) for shard in shards]
    assert sorted(states(result.outcomes).popitem() for result in results) == [
        ("a", "extracted"),
        ("b", "extracted"),
    ]


@pytest.fixture
def one_by_one(manifest, options, monkeypatch):
    """A plan with a shard for each clip, and batches that hold more than two clips.

    The last clip, which cannot be decoded, ends first.
    """
    monkeypatch.setattr("features.extraction.shards.MAX_CLIPS", 1)
    return planned(manifest, replace(options, batch_size=48))


def test_streamed_shards_report_their_own_clips_and_share_batches(one_by_one, monkeypatch):
    plan, shards = one_by_one
    n_items = []

    def counted(parts, *more):
        n_items.append(sum(map(len, parts)))
        return pad_batch(parts, *more)

    monkeypatch.setattr("features.extraction.batching.pad_batch", counted)
    progress, results = [], []
    with closing(ShardStream(plan, shards, lambda: True)) as stream:
        for shard in shards:
            results.append(stream.extract(shard.number, progress.append))
    assert n_items == [24]  # the clips that can be decoded are in one batch
    by_shard = [states(result.outcomes) for result in results]
    assert by_shard == [{clip.id: ENDS[clip.id] for clip in shard.clips.clips} for shard in shards]
    assert [outcome.clip for outcome in progress] == [
        clip.id for shard in shards for clip in shard.clips.clips
    ]
    assert sum(bool(result.remarks) for result in results) == 1
    assert states(result_in_store(plan, (), (), 0.0).outcomes) == ENDS


def test_streamed_shards_start_no_clip_after_a_stop(one_by_one):
    plan, shards = one_by_one
    answers = iter([True, True])  # for the pass, and for its first clip
    results = []
    with closing(ShardStream(plan, shards, lambda: next(answers, False))) as stream:
        for shard in shards:
            results.append(stream.extract(shard.number, lambda _: None))
    assert [len(result.outcomes) for result in results] == [1, 0, 0]
    assert sum(bool(result.remarks) for result in results) == 1


def test_a_run_may_be_limited_to_named_or_to_quarantined_clips(manifest, options):
    def extract(**keys):
        return extract_features(manifest, replace(options, **keys))

    assert states(extract(only=("b",)).outcomes) == {"b": "extracted"}
    with pytest.raises(InputError, match="the manifest has no clip 'bb'; did you mean 'b'"):
        extract(only=("bb",))
    none = extract(failed=True)
    assert (none.outcomes, none.failed) == ((), ())
    assert "no clip is in quarantine; nothing to do" in none.summary()
    extract()
    again = extract(failed=True)
    assert [(o.clip, o.state, o.reason) for o in again.outcomes] == [("c", "quarantined", "forced")]


def test_selected_clips_keep_the_order_of_the_manifest(manifest):
    clips = read_manifest(manifest)
    assert [clip.id for clip in clips.select(["c", "a"]).clips] == ["a", "c"]
    assert clips.select(()) is clips


def test_no_clip_is_started_after_a_stop(manifest, options):
    answers = iter([True, True])  # for the pass, and for its first clip
    result = extract_features(manifest, options, should_continue=lambda: next(answers, False))
    assert states(result.outcomes) == {"a": "extracted"}


@pytest.mark.parametrize("name", ["batch_size", "readers"])
def test_options_below_one_are_refused(options, name):
    with pytest.raises(InputError, match=f"{name}=0 is below 1; give a positive number or null"):
        replace(options, **{name: 0})
