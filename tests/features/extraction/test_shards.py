"""How clips are dealt out, and what a run in shards says in the end."""

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
from features.extraction.runtime import Runtime
from features.extraction.shards import (
    MAX_CLIPS,
    MAX_SHARDS,
    MIN_CLIPS,
    ShardStream,
    deal_shards,
    media_bytes,
    plan_shards,
)
from features.manifest.manifest import read_manifest, select, write_manifest
from features.media.limits import DEFAULT_LIMITS
from tests.helpers.small_media import tone


@given(st.lists(st.integers(0, 10**9), max_size=700), st.integers(1, 40))
def test_every_clip_is_in_one_shard_of_like_number_and_like_weight(weights, n_workers):
    shards = deal_shards(weights, n_workers)
    assert sorted(place for shard in shards for place in shard) == list(range(len(weights)))
    sizes = [len(shard) for shard in shards]
    if weights:
        assert max(sizes) - min(sizes) <= 1
        assert max(sizes) <= MAX_CLIPS
        assert min(sizes) >= min(MIN_CLIPS, len(weights))
    if weights and len(weights) % len(shards) == 0:
        sums = [sum(weights[place] for place in shard) for shard in shards]
        assert max(sums) - min(sums) <= max(weights) - min(weights)


def test_the_heaviest_are_dealt_to_and_fro():
    shards = deal_shards(
        list(range(1, 33)), 2
    )  # 32 to the first, 31 and 30 to the second, 29 and 28 ...
    assert [sum(place + 1 for place in shard) for shard in shards] == [264, 264]


def test_there_are_shards_enough_for_the_workers_and_never_more_than_a_run_can_bear():
    assert len(deal_shards([1] * 200, 1)) == 4  # 50 clips each
    assert len(deal_shards([1] * 200, 2)) == 8
    assert len(deal_shards([1] * 200, 40)) == 12  # of 16 or 17
    assert len(deal_shards([1] * 40, 2)) == 2
    assert len(deal_shards([1] * 3, 2)) == 1
    assert len(deal_shards([1] * 100_000, 8)) == MAX_SHARDS


def test_the_weight_of_a_clip_is_that_of_its_media(tmp_path, make_crops):
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
def request_(tmp_path, tiny_clip):
    return ExtractionOptions(
        store=str(tmp_path / "s.zarr"),
        encoders=(ClipConfig(**tiny_clip),),
        device="cpu",
        batch_size=None,
        readers=1,
        limits=DEFAULT_LIMITS,
        failed=False,
        force=False,
    )


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


def test_what_the_store_has_counts_and_not_what_a_shard_said(manifest, request_, station):
    run = plan_shards(manifest, (), request_, 1)
    (shard,) = run.shards
    name = request_.encoders[0].spec().name
    nothing = run.outcomes((), "lost with its worker")
    assert states(nothing) == dict.fromkeys("abc", "failed")
    assert {outcome.detail for outcome in nothing} == {"lost with its worker"}
    said = []
    reported = shard.extract(station, said.append)
    assert tuple(said) == reported.outcomes
    reported = reported.outcomes
    wanted = {"a": "extracted", "b": "extracted", "c": "quarantined"}
    assert states(run.outcomes(reported, "")) == wanted
    assert states(run.outcomes((), "")) == wanted  # a report that was lost changes nothing
    assert {o.reason for o in run.outcomes((), "")} == {"new"}
    boast = Outcome("c", name, "extracted", n_rows=12, reason="new")
    assert states(run.outcomes((boast,), "")) == wanted
    again = plan_shards(manifest, (), request_, 1)
    assert again.shards == ()
    assert states(again.outcomes((), "")) == {"a": "present", "b": "present", "c": "quarantined"}


def test_forced_clips_that_nobody_came_to_have_failed(manifest, request_, station):
    plan_shards(manifest, (), request_, 1).shards[0].extract(station, lambda _: None)
    forced = plan_shards(manifest, (), replace(request_, force=True), 1)
    assert states(forced.outcomes((), "")) == dict.fromkeys("abc", "failed")
    reported = forced.shards[0].extract(station, lambda _: None).outcomes
    assert states(forced.outcomes(reported, "")) == {
        "a": "extracted",
        "b": "extracted",
        "c": "quarantined",
    }


def test_a_shard_that_is_told_to_stop_begins_nothing(manifest, request_, station, monkeypatch):
    run = plan_shards(manifest, (), request_, 1)
    monkeypatch.setattr(Runtime, "encoder", lambda *_: pytest.fail("weights were loaded"))
    assert run.shards[0].extract(station, lambda _: None, lambda: False).outcomes == ()


@pytest.fixture
def one_by_one(manifest, request_, monkeypatch):
    """A run with a shard for each clip, in one line with batches that hold more than two clips.

    The last clip, which cannot be decoded, ends first.
    """
    monkeypatch.setattr("features.extraction.shards.MAX_CLIPS", 1)
    return plan_shards(manifest, (), replace(request_, batch_size=48), 1)


def test_shards_in_one_line_tell_of_their_own_clips_and_share_batches(one_by_one, monkeypatch):
    n_items = []

    def counted(parts, *more):
        n_items.append(sum(map(len, parts)))
        return pad_batch(parts, *more)

    monkeypatch.setattr("features.extraction.batching.pad_batch", counted)
    said, found = [], []
    with closing(ShardStream(one_by_one, lambda: True)) as line:
        for shard in one_by_one.shards:
            found.append(line.extract(shard.number, said.append))
    assert n_items == [24]  # both clips that can be decoded: the line did not end between them
    states_ = [states(each.outcomes) for each in found]
    assert sorted(map(str, states_)) == [
        "{'a': 'extracted'}",
        "{'b': 'extracted'}",
        "{'c': 'quarantined'}",
    ]
    assert [clip.id for shard in one_by_one.shards for clip in shard.clips.clips] == [
        outcome.clip for outcome in said
    ]
    assert sum(bool(each.remarks) for each in found) == 1
    assert states(one_by_one.outcomes((), "")) == {
        "a": "extracted",
        "b": "extracted",
        "c": "quarantined",
    }


def test_shards_in_one_line_that_are_told_to_stop_begin_nothing_more(one_by_one):
    answers = iter([True, True])  # for the pass, and for its first clip
    found = []
    with closing(ShardStream(one_by_one, lambda: next(answers, False))) as line:
        for shard in one_by_one.shards:
            found.append(len(line.extract(shard.number, lambda _: None).outcomes))
    assert found == [1, 0, 0]


def test_a_part_is_what_is_named_or_what_failed(manifest, request_, tmp_path, make_video):
    store, encoders = request_.store, request_.encoders
    assert states(
        extract_features(manifest, ExtractionOptions(store, encoders, only=("b",))).outcomes
    ) == {"b": "extracted"}
    with pytest.raises(InputError, match="the manifest has no clip 'bb'; did you mean 'b'"):
        extract_features(manifest, ExtractionOptions(store, encoders, only=("bb",)))
    none = extract_features(manifest, ExtractionOptions(store, encoders, failed=True))
    assert (none.outcomes, none.failed) == ((), ())
    assert "no clip is in quarantine; nothing to do" in none.summary()
    extract_features(manifest, ExtractionOptions(store, encoders))
    tried = extract_features(manifest, ExtractionOptions(store, encoders, failed=True))
    assert [(o.clip, o.state, o.reason) for o in tried.outcomes] == [("c", "quarantined", "forced")]


def test_the_parts_of_a_manifest_keep_its_order(manifest):
    clips = read_manifest(manifest)
    assert [clip.id for clip in select(clips, ["c", "a"]).clips] == ["a", "c"]
    assert select(clips, ()) is clips


def test_no_clip_is_begun_after_the_word_to_stop(manifest, request_):
    asked = []

    def on_next():
        asked.append(1)
        return len(asked) <= 2  # asked once for the pass, then once a clip

    store, encoders = request_.store, request_.encoders
    result = extract_features(
        manifest, ExtractionOptions(store, encoders, readers=1), should_continue=on_next
    )
    assert states(result.outcomes) == {"a": "extracted"}
