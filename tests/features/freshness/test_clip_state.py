from pathlib import Path

import pytest

from features.errors import MediaError
from features.freshness.clip_state import NO_RECORD, clip_state
from features.media.decoder_version import DecoderVersion, decoder_version
from features.store.feature_store import FeatureStore
from tests.helpers.small_stores import SPEC, make_track, send_away, source_of, write_clips

GONE = MediaError("c.mp4 cannot be read", "missing")


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_clips(tmp_path)


def state_in(folder: Path, clip: str, source=..., decoder: DecoderVersion | None = None, **keys):
    source = source_of(folder, clip) if source is ... else source
    store = FeatureStore.open(folder / "s.zarr")
    return clip_state(store, SPEC.name, clip, source, decoder or decoder_version(), **keys)


def commit_path(folder: Path, clip: str) -> Path:
    return folder / f"s.zarr/{SPEC.name}/{clip}/zarr.json"


def test_a_record_of_the_same_media_is_complete_and_its_note_is_the_reason(folder):
    assert (state_in(folder, "a").state, state_in(folder, "a").reason) == ("complete", "")
    store = FeatureStore.open(folder / "s.zarr")
    source = source_of(folder, "a")
    store.write(SPEC, "a", make_track(0), source=source, provenance={}, note="no sound")
    found = state_in(folder, "a")
    assert (found.state, found.reason) == ("complete", "no sound")
    assert found.commit == store.commit(SPEC.name, "a").digest


def test_a_clip_without_a_record_is_missing(folder):
    assert state_in(folder, "c") is NO_RECORD


def test_a_record_of_other_media_is_stale_and_the_changed_parts_are_named(folder):
    before = source_of(folder, "a")
    found = state_in(folder, "a", {**before, "video": "0" * 64, "fps": 25.0})
    assert (found.state, found.reason) == ("stale", "source changed: video, fps")
    assert state_in(folder, "a", {"video": before["video"], "frames": None}).state == "complete"


def test_a_record_with_a_damaged_commit_or_a_missing_file_is_corrupt(folder):
    (folder / f"s.zarr/{SPEC.name}/a/valid/c/0").unlink()
    assert (state_in(folder, "a").state, state_in(folder, "a").reason) == (
        "corrupt",
        "valid/c/0 is missing",
    )
    commit_path(folder, "b").write_text("{")
    found = state_in(folder, "b")
    assert (found.state, found.commit, found.n_bytes) == ("corrupt", None, 0)


def test_a_clip_with_a_valid_quarantine_entry_is_quarantined(folder):
    send_away(folder, "c")
    found = state_in(folder, "c")
    assert (found.state, found.reason) == ("quarantined", "damaged: moov atom not found")
    assert (found.quarantine.clip, found.commit) == ("c", None)


def test_a_stale_or_corrupt_record_can_be_quarantined_and_keeps_its_commit(folder):
    commit = state_in(folder, "a").commit
    (folder / "a.mp4").write_text("other pictures")
    send_away(folder, "a")
    assert (state_in(folder, "a").state, state_in(folder, "a").commit) == ("quarantined", commit)
    commit_path(folder, "b").write_text("{")
    send_away(folder, "b")
    assert state_in(folder, "b").state == "quarantined"


def test_a_complete_record_is_never_quarantined(folder):
    send_away(folder, "a")
    assert (state_in(folder, "a").state, state_in(folder, "a").quarantine) == ("complete", None)


def test_an_entry_for_other_media_or_another_decoder_counts_as_none(folder):
    send_away(folder, "c")
    assert state_in(folder, "c", decoder=DecoderVersion("a later one")) is NO_RECORD
    (folder / "c.mp4").write_text("another file")
    assert state_in(folder, "c") is NO_RECORD


def test_only_the_entries_that_are_listed_are_read(folder):
    send_away(folder, "c")
    assert state_in(folder, "c", quarantined={"c"}).state == "quarantined"
    assert state_in(folder, "c", quarantined=set()) is NO_RECORD


def test_unreadable_media_leaves_a_record_stale_and_gives_the_reason_without_one(folder):
    found = state_in(folder, "a", GONE)
    assert (found.state, found.commit) == ("stale", state_in(folder, "a").commit)
    assert found.reason.endswith("is no longer available: c.mp4 cannot be read")
    send_away(folder, "c")  # whether the entry is valid cannot be known
    found = state_in(folder, "c", GONE)
    assert (found.state, found.reason) == ("missing", "c.mp4 cannot be read")
    commit_path(folder, "a").write_text("{")
    assert state_in(folder, "a", GONE).state == "corrupt"


def test_without_media_to_compare_a_sound_record_is_complete_and_any_entry_is_valid(folder):
    assert state_in(folder, "a", None).state == "complete"
    send_away(folder, "c", extractor="an older one")
    assert state_in(folder, "c", None).state == "quarantined"
