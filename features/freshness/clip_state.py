"""Whether the record of a clip in a feature set is up to date with its media."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from features.canonical_json import JsonObject
from features.freshness.quarantine import QuarantineEntry, is_valid, read_entry
from features.media.decoder_version import DecoderVersion
from features.store.commit import RecordHeader
from features.store.feature_store import FeatureStore

RecordState = Literal["complete", "missing", "stale", "corrupt"]


def record_state(seen: RecordHeader, source: JsonObject) -> tuple[RecordState, str]:
    """How what was seen of a record stands to the media that it should be made from, and why."""
    if seen.fault:
        return "corrupt", seen.fault
    if seen.commit is None:
        return "missing", "no record"
    before = seen.commit.source
    if changed := [key for key in source | before if source.get(key) != before.get(key)]:
        return "stale", f"source changed: {', '.join(changed)}"
    return "complete", seen.commit.note or ""


@dataclass(frozen=True, slots=True)
class ClipState:
    """What is there of a clip in a feature set."""

    state: RecordState
    why: str
    commit: str | None
    """Digest of the commit, where there is one."""
    quarantined: QuarantineEntry | None
    """What forbids to try the clip, where it is not complete."""


NOTHING = ClipState("missing", "no record", None, None)


def clip_state(
    store: FeatureStore,
    set_name: str,
    clip_id: str,
    source: JsonObject,
    tool: DecoderVersion,
    quarantined: Collection[str] | None = None,
) -> ClipState:
    """What is there now of a clip whose media has this digest.

    `quarantined` are the clips that have a record in quarantine; without it, one looks there.
    """
    seen = store.header(set_name, clip_id)
    state, why = record_state(seen, source)
    record = None
    if state != "complete" and (quarantined is None or clip_id in quarantined):
        record = read_entry(store.work, set_name, clip_id)
    standing = record if record and is_valid(record, source, tool) else None
    if seen.commit is None and not seen.fault and standing is None:
        return NOTHING  # once for a million clips
    return ClipState(state, why, seen.commit.digest if seen.commit else None, standing)
