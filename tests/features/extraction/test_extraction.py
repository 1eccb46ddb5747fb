import logging
import shutil
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from features.clip import Clip
from features.encoders.ast import AstConfig
from features.encoders.clip import ClipConfig, ClipEncoder
from features.errors import MediaError
from features.extraction.batching import LEAST_ON_CPU
from features.extraction.extract import extract_features
from features.extraction.options import ExtractionOptions
from features.extraction.throughput import read_throughput
from features.freshness.quarantine import read_entry
from features.maintenance.status import render_status, status
from features.manifest.manifest import read_manifest, write_manifest
from features.media.decoder_version import DecoderVersion
from features.media.limits import DecodeLimits
from features.media.worker.client import DecoderClient
from features.store.feature_store import FeatureStore
from tests.helpers.small_media import tone

pytestmark = pytest.mark.slow


@pytest.fixture
def encoders(tiny_clip, tiny_ast):
    return (ClipConfig(**tiny_clip), AstConfig(model=tiny_ast, hop_s=0.64))


@pytest.fixture
def manifest(tmp_path, make_video, make_crops):
    """Four clips: whole frames, crops with gaps, no audio, 5 frames only."""
    clips = []
    for number, (n_frames, crops, sound) in enumerate(
        [(40, None, True), (70, [1, 2, 40, 69], True), (33, None, False), (5, None, True)]
    ):
        name = f"c{number}"
        make_video(
            f"{name}.mp4",
            time_s=np.arange(n_frames) / 25,
            sound=tone(n_frames / 25, seed=number) if sound else None,
        )
        frames = make_crops(crops, f"crops-{name}", seed=number).name if crops else None
        clips.append(Clip(id=name, video=f"{name}.mp4", frames=frames, split="train"))
    write_manifest(tmp_path / "m.jsonl", clips)
    return tmp_path / "m.jsonl"


@pytest.fixture
def both(tmp_path, encoders):
    return ExtractionOptions(str(tmp_path / "s.zarr"), encoders)


@pytest.fixture
def visual(both, encoders):
    return replace(both, encoders=encoders[:1])


def counts(result) -> dict[str, int]:
    return dict(result.counts)


def tracks(store, clip_ids=("c0", "c1", "c2", "c3")):
    opened = FeatureStore.open(store)
    return {
        (name, clip): opened.read(name, clip) for name in opened.feature_sets() for clip in clip_ids
    }


def test_every_clip_gets_a_track_in_every_set_and_a_second_run_encodes_nothing(
    manifest, encoders, both, tmp_path, monkeypatch
):
    store = str(tmp_path / "s.zarr")
    result = extract_features(manifest, both)
    assert counts(result) == {"extracted": 8}
    assert result.reasons == {"new": 8}
    assert result.notes() == ["c2: the clip has no sound"]
    stored = tracks(store)
    clip_set, ast_set = (encoder.spec().name for encoder in encoders)
    assert [len(stored[clip_set, f"c{k}"].values) for k in range(4)] == [40, 70, 33, 5]
    assert stored[clip_set, "c1"].valid.sum() == 4
    assert len(stored[ast_set, "c2"].values) == 0

    def never(*_):
        raise AssertionError("an encoder was built though nothing is missing")

    monkeypatch.setattr(ClipConfig, "build", never)
    monkeypatch.setattr(AstConfig, "build", never)
    again = extract_features(manifest, both)
    assert counts(again) == {"present": 8}
    assert "nothing to encode" in again.summary()


def test_a_decoding_process_serves_one_clip_after_another(manifest, both, monkeypatch):
    starts, start = [], DecoderClient.start

    def counted(self):
        starts.append(self)
        start(self)

    monkeypatch.setattr(DecoderClient, "start", counted)
    extract_features(manifest, replace(both, readers=1))
    assert len(starts) <= 1  # none if one is left of another test


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_batches_across_clips_change_no_value(
    manifest, encoders, tmp_path, batch_size, monkeypatch, decoder
):
    sizes = []
    encode = ClipEncoder.encode

    def counted(self, items):
        sizes.append(len(items))
        return encode(self, items)

    monkeypatch.setattr(ClipEncoder, "encode", counted)
    extract_features(
        manifest, ExtractionOptions(str(tmp_path / "a.zarr"), encoders[:1], batch_size=batch_size)
    )
    n_pictures = 40 + 4 + 33 + 5
    full, rest = divmod(n_pictures, batch_size)
    last = max(rest, min(LEAST_ON_CPU, batch_size))
    assert sizes == [batch_size] * full + [last] * (rest > 0)  # none smaller but the last
    encoder = encoders[0].build(torch.device("cpu"))
    for (_, clip), track in tracks(tmp_path / "a.zarr").items():
        alone = extract_alone(encoder, manifest, clip, decoder)
        np.testing.assert_allclose(track.values, alone.values, atol=2e-3)
        np.testing.assert_array_equal(track.time_s, alone.time_s)
        np.testing.assert_array_equal(track.valid, alone.valid)


def extract_alone(encoder, manifest, clip_id, decoder):
    listed = read_manifest(manifest)
    source = listed.source(next(c for c in listed.clips if c.id == clip_id))
    *pieces, layout = encoder.read(source, decoder)
    outputs = [encoder.encode(item[None]) for piece in pieces for item in piece]
    return encoder.assemble(outputs, layout)[0]


def test_a_broken_clip_is_reported_and_the_others_are_extracted(manifest, both, tmp_path):
    whole = (tmp_path / "c1.mp4").read_bytes()
    (tmp_path / "c1.mp4").write_bytes(whole[: len(whole) // 2])
    shutil.rmtree(tmp_path / "crops-c1")  # so the video is what is read
    (tmp_path / "crops-c1").mkdir()
    (tmp_path / "c3.mp4").unlink()
    result = extract_features(manifest, both)
    assert counts(result) == {"extracted": 4, "quarantined": 2, "failed": 2}
    assert {(o.clip, o.state) for o in result.failed} == {("c1", "quarantined"), ("c3", "failed")}
    messages = " ".join(o.detail for o in result.failed)
    assert "c3.mp4 cannot be read" in messages
    assert "c1.mp4 cannot be decoded" in messages

    (tmp_path / "c1.mp4").write_bytes(whole)  # mended: only what is missing is done
    shutil.rmtree(tmp_path / "crops-c1")
    (tmp_path / "m.jsonl").write_text(
        "".join(
            line.replace('"crops-c1"', "null") + "\n"
            for line in manifest.read_text().splitlines()
            if '"c3"' not in line
        )
    )
    assert counts(extract_features(manifest, both)) == {"extracted": 2, "present": 4}


def test_only_changed_media_is_extracted_again(manifest, both, tmp_path):
    extract_features(manifest, both)
    crop = tmp_path / "crops-c1" / "00002.jpg"
    crop.write_bytes((tmp_path / "crops-c1" / "00040.jpg").read_bytes())
    result = extract_features(manifest, both)
    done = [o for o in result.outcomes if o.state == "extracted"]
    assert [(o.clip, o.feature_set[:4], o.reason) for o in done] == [
        ("c1", "clip", "source changed")
    ]


def test_renamed_media_and_changed_labels_cause_no_extraction(manifest, both, tmp_path):
    extract_features(manifest, both)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "c0.mp4").rename(tmp_path / "elsewhere" / "other-name.mp4")
    text = manifest.read_text().replace('"c0.mp4"', '"elsewhere/other-name.mp4"')
    manifest.write_text(text.replace('"split": "train"', '"split": "val"'))
    assert counts(extract_features(manifest, both)) == {"present": 8}


def test_a_record_that_lost_a_file_is_extracted_again_and_force_extracts_all(
    manifest, encoders, visual, tmp_path
):
    store = tmp_path / "s.zarr"
    extract_features(manifest, visual)
    (store / encoders[0].spec().name / "c0" / "values" / "c" / "0" / "0").unlink()
    result = extract_features(manifest, visual)
    assert [(o.clip, o.reason) for o in result.outcomes if o.state == "extracted"] == [
        ("c0", "corrupt")
    ]
    forced = extract_features(manifest, replace(visual, force=True))
    assert forced.reasons == {"forced": 4}


def test_another_spec_makes_another_feature_set(manifest, tiny_ast, tmp_path):
    store = str(tmp_path / "s.zarr")
    extract_features(manifest, ExtractionOptions(store, (AstConfig(model=tiny_ast, hop_s=0.64),)))
    extract_features(manifest, ExtractionOptions(store, (AstConfig(model=tiny_ast, hop_s=0.32),)))
    assert len(FeatureStore.open(store).feature_sets()) == 2


def test_an_unexpected_error_of_a_reader_ends_the_run_and_its_threads(
    manifest, visual, monkeypatch
):
    def read(self, source, decoder):
        if source.clip_id == "c1":
            raise ZeroDivisionError("a fault of the program")
        yield torch.zeros((1, 3, 32, 32), dtype=torch.uint8)
        raise MediaError("a fault of the clip", "damaged")

    monkeypatch.setattr(ClipEncoder, "read", read)
    with pytest.raises(ZeroDivisionError):
        extract_features(manifest, visual)
    assert not [t for t in threading.enumerate() if t.name.startswith("reader")]


def test_values_that_are_not_finite_fail(manifest, visual, monkeypatch):
    monkeypatch.setattr(
        ClipEncoder, "encode", lambda self, items: torch.full((len(items), 16), float("nan"))
    )
    result = extract_features(manifest, visual)
    assert counts(result) == {"failed": 4}
    assert "not finite" in result.failed[0].detail


def test_an_unreadable_crop_fails_only_its_clip(manifest, visual, tmp_path):
    (tmp_path / "crops-c1" / "00002.jpg").unlink()
    (tmp_path / "crops-c1" / "00002.jpg").symlink_to(tmp_path / "nowhere.jpg")
    result = extract_features(manifest, visual)
    assert counts(result) == {"extracted": 3, "failed": 1}
    assert "00002.jpg cannot be read" in result.failed[0].detail
    assert status(str(tmp_path / "s.zarr"), manifest).counts == {"complete": 3, "missing": 1}


def test_an_interrupted_run_keeps_its_records_and_the_next_run_extracts_the_rest(
    manifest, visual, monkeypatch
):
    monkeypatch.setattr("features.extraction.pipeline.WRITES_AHEAD", 0)
    outcomes = []

    def interrupt(outcome, total):
        outcomes.append(outcome)
        if len(outcomes) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract_features(manifest, visual, on_outcome=interrupt)
    assert not [t for t in threading.enumerate() if t.name.startswith("reader")]
    assert counts(extract_features(manifest, visual)) == {"present": 2, "extracted": 2}


def test_a_clip_above_a_limit_is_quarantined_until_the_limit_is_raised(manifest, visual):
    limits = DecodeLimits(frames=40)
    result = extract_features(manifest, replace(visual, limits=limits))
    assert counts(result) == {"extracted": 3, "quarantined": 1}
    assert "it has 69 frames or more, more than limits.frames = 40" in result.failed[0].detail
    again = extract_features(manifest, replace(visual, limits=limits))
    assert counts(again) == {"present": 3, "quarantined": 1}
    raised = extract_features(manifest, replace(visual, limits=DecodeLimits(frames=70)))
    assert counts(raised) == {"present": 3, "extracted": 1}


def test_readers_wait_when_the_queue_is_full(manifest, visual, monkeypatch):
    monkeypatch.setattr("features.extraction.prefetch.QUEUE_PIECES", 1)
    result = extract_features(manifest, replace(visual, readers=3))
    assert counts(result) == {"extracted": 4}


def test_status_reports_complete_missing_stale_and_corrupt_clips(
    manifest, encoders, visual, tmp_path
):
    store = tmp_path / "s.zarr"
    extract_features(manifest, visual)
    assert status(str(store), manifest).is_complete
    name = encoders[0].spec().name
    shutil.rmtree(store / name / "c0")
    (store / name / "c2" / "time_s" / "c" / "0").unlink()
    (tmp_path / "c3.mp4").write_bytes((tmp_path / "c0.mp4").read_bytes())
    report = status(str(store), manifest)
    assert not report.is_complete
    assert {c.clip: c.state for c in report.clips} == {
        "c0": "missing",
        "c1": "complete",
        "c2": "corrupt",
        "c3": "stale",
    }
    assert report.as_json()["counts"] == {"missing": 1, "complete": 1, "corrupt": 1, "stale": 1}
    lines = "\n".join(render_status(report))
    assert f"stale: c3 ({name}): source changed: video" in lines


def break_video(tmp_path, name: str = "c3") -> bytes:
    """Delete half of a clip's video; returns the whole of it."""
    whole = (tmp_path / f"{name}.mp4").read_bytes()
    (tmp_path / f"{name}.mp4").write_bytes(whole[: len(whole) // 2])
    return whole


@pytest.fixture
def clips_read(monkeypatch) -> list[str]:
    """The clips that the visual encoder reads."""
    clip_ids, read = [], ClipEncoder.read

    def noted(self, source, *rest):
        clip_ids.append(source.clip_id)
        yield from read(self, source, *rest)

    monkeypatch.setattr(ClipEncoder, "read", noted)
    return clip_ids


def test_a_quarantined_clip_is_not_tried_again_until_media_or_decoder_change(
    manifest, visual, tmp_path, clips_read, monkeypatch
):
    work, name = tmp_path / "s.zarr.work", visual.encoders[0].spec().name
    whole = break_video(tmp_path)
    assert counts(extract_features(manifest, visual)) == {"extracted": 3, "quarantined": 1}
    entry = read_entry(work, name, "c3")
    assert entry.code in ("not-media", "damaged", "incomplete")
    assert "c3.mp4" in entry.message

    clips_read.clear()
    again = extract_features(manifest, visual)
    assert counts(again) == {"present": 3, "quarantined": 1}
    assert again.failed[0].detail.startswith(entry.message)
    assert "not tried again until its media or what decodes it changes" in again.failed[0].detail
    assert clips_read == []

    monkeypatch.setattr(
        "features.extraction.plan.decoder_version",
        lambda limits: DecoderVersion("a better one", limits),
    )
    extract_features(manifest, visual)
    assert clips_read == ["c3"]
    assert read_entry(work, name, "c3").decoder == "a better one"

    (tmp_path / "c3.mp4").write_bytes(whole)
    assert counts(extract_features(manifest, visual)) == {"present": 3, "extracted": 1}
    assert read_entry(work, name, "c3") is None


def test_force_extracts_complete_and_quarantined_clips_again(manifest, visual, tmp_path):
    break_video(tmp_path)
    extract_features(manifest, visual)
    forced = extract_features(manifest, replace(visual, force=True))
    assert counts(forced) == {"extracted": 3, "quarantined": 1}
    assert forced.reasons == {"forced": 3}
    assert {outcome.reason for outcome in forced.outcomes} == {"forced"}


def test_missing_media_and_encoder_failures_are_tried_each_time(
    manifest, visual, tmp_path, monkeypatch
):
    (tmp_path / "c3.mp4").rename(tmp_path / "away.mp4")
    monkeypatch.setattr(
        ClipEncoder, "encode", lambda self, items: torch.full((len(items), 16), float("nan"))
    )
    assert counts(extract_features(manifest, visual)) == {"failed": 4}
    assert not list((tmp_path / "s.zarr.work").glob("quarantine/*/*"))
    (tmp_path / "away.mp4").rename(tmp_path / "c3.mp4")
    monkeypatch.undo()
    assert counts(extract_features(manifest, visual)) == {"extracted": 4}


def test_a_complete_clip_is_not_quarantined_by_a_forced_run_that_fails(
    manifest, visual, monkeypatch
):
    extract_features(manifest, visual)

    def read(self, source, *_):
        raise MediaError("a fault of the clip", "damaged")
        yield

    monkeypatch.setattr(ClipEncoder, "read", read)
    assert counts(extract_features(manifest, replace(visual, force=True))) == {"failed": 4}
    assert counts(extract_features(manifest, visual)) == {"present": 4}


def test_media_that_changes_while_it_is_read_is_not_stored(
    manifest, encoders, visual, tmp_path, monkeypatch
):
    store, assemble = str(tmp_path / "s.zarr"), ClipEncoder.assemble

    def meanwhile(self, outputs, layout):
        (tmp_path / "c3.mp4").write_bytes((tmp_path / "c0.mp4").read_bytes())
        (tmp_path / "c0.mp4").unlink(missing_ok=True)
        return assemble(self, outputs, layout)

    only = [Clip(id=k, video=f"{k}.mp4", split="train") for k in ("c3", "c0")]
    write_manifest(manifest, only[:1])
    monkeypatch.setattr(ClipEncoder, "assemble", meanwhile)
    result = extract_features(manifest, visual)
    assert [(o.state, o.detail) for o in result.outcomes] == [
        ("failed", "its media changed while it was read; run the same again")
    ]
    monkeypatch.undo()
    assert counts(extract_features(manifest, visual)) == {"extracted": 1}
    assert len(tracks(store, ["c3"])[encoders[0].spec().name, "c3"].values) == 40  # c0's frames


def test_the_reason_is_recorded_and_logged(manifest, encoders, visual, tmp_path, caplog):
    caplog.set_level(logging.INFO, "features.extraction.extract")
    store = str(tmp_path / "s.zarr")
    result = extract_features(manifest, visual)
    name = encoders[0].spec().name
    assert f"c2 ({name}): extracted: new" in caplog.messages
    assert "4 extracted, 0 already there, 0 failed, in" in result.summary()
    assert "(4 new)" in result.summary()
    (tmp_path / "c0.mp4").write_bytes((tmp_path / "c3.mp4").read_bytes())
    extract_features(manifest, visual)
    commit = FeatureStore.open(store).commit(name, "c0")
    assert commit.provenance["reason"] == "source changed"
    assert f"c0 ({name}): extracted: source changed" in caplog.messages
    break_video(tmp_path)
    summary = extract_features(manifest, visual).summary()
    assert "0 extracted, 3 already there, 0 failed, 1 quarantined, in" in summary


def test_a_small_number_of_claims_suffices(manifest, both, monkeypatch):
    monkeypatch.setattr("features.extraction.pipeline.MAX_CLAIMS", 1)
    result = extract_features(manifest, replace(both, batch_size=1000))
    assert counts(result) == {"extracted": 8}


def test_a_clip_claimed_by_another_process_is_extracted_last(manifest, encoders, visual, tmp_path):
    store, name = FeatureStore.open(tmp_path / "s.zarr", create=True), encoders[0].spec().name
    lock = store.claim(name, "c0")

    def free(outcome, total):
        if outcome.clip == "c3":
            lock.release()

    result = extract_features(
        manifest,
        replace(visual, readers=1),
        on_outcome=free,
    )
    assert [o.clip for o in result.outcomes] == ["c1", "c2", "c3", "c0"]
    assert not list((store.work / "locks").iterdir())


def test_media_that_was_hashed_is_not_read_again(manifest, both, monkeypatch):
    now = time.time_ns
    monkeypatch.setattr("features.freshness.digest_cache.time.time_ns", lambda: now() + 10**10)
    extract_features(manifest, both)

    def never(path):
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr("features.freshness.media_digests.sha256_of", never)
    assert counts(extract_features(manifest, both)) == {"present": 8}


@pytest.mark.parametrize(("gain", "n_remarks"), [(3.0, 2), (1.2, 1)])
def test_a_result_reports_the_bottleneck_and_a_faster_precision(
    manifest, both, monkeypatch, gain, n_remarks
):
    monkeypatch.setattr("features.system.devices.bfloat16_gain", lambda device: gain)
    remarks = extract_features(manifest, both).remarks
    assert len(remarks) == n_remarks
    assert remarks[0].startswith("stages, in ")
    if n_remarks == 2:
        assert remarks[1].startswith("cpu multiplies 3.0 times faster in bfloat16 than in float32")
        assert "precision: bfloat16 for clip and ast" in remarks[1]
    assert extract_features(manifest, both).remarks == ()


def test_feature_sets_extracted_together_share_the_measured_time(
    manifest, encoders, both, tmp_path
):
    store = FeatureStore.open_or_plan(tmp_path / "s.zarr")
    result = extract_features(manifest, both)
    names = [encoder.spec().name for encoder in encoders]
    each_s = [read_throughput(store.work, name, "cpu").seconds for name in names]
    assert min(each_s) > 0
    assert sum(each_s) < result.seconds
