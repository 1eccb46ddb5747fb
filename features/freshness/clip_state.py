"""Whether the record of a clip in a feature set is up to date with the clip's media."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Literal

from features.canonical_json import JsonObject
from features.clip import Source
from features.errors import MediaError
from features.freshness.media_digests import SourceDigests
from features.freshness.quarantine import QuarantineEntry, is_valid, read_entry
from features.media.decoder_version import DECODING, DecoderVersion
from features.spec import FeatureSpec
from features.store.commit import RecordHeader
from features.store.feature_store import FeatureStore

IMPORTED_ROWS = "imported_rows"
"""The key of the digest of what was imported, among those of a record's media."""

State = Literal["complete", "missing", "stale", "corrupt", "quarantined"]


@dataclass(frozen=True, slots=True)
class ClipState:
    """The state of one clip in one feature set."""

    state: State
    reason: str
    """The reason in words; for a complete record its note, which is usually empty."""
    commit: str | None = None
    """Digest of the record's commit; None without a readable commit."""
    n_bytes: int = 0
    """Size of the record's files; 0 if they cannot be counted."""
    quarantine: QuarantineEntry | None = None
    """The entry because of which the clip is not tried; None unless it is quarantined."""


NO_RECORD = ClipState("missing", "no record")


def clip_state(
    store: FeatureStore,
    set_name: str,
    clip_id: str,
    source: JsonObject | MediaError | None,
    decoder: DecoderVersion,
    quarantined: Collection[str] | None = None,
    changes: Callable[[], str] | None = None,
) -> ClipState:
    """Return the state of a clip in a feature set; the arrays are not read.

    `source` holds the digests of the clip's media, as `SourceDigests.of` returns them, or the
    error that it raised: then a record is stale, and the quarantine is not read. With None the
    media is not compared: a record that is not corrupt is complete, and any quarantine entry is
    valid. `quarantined` has the clips with a quarantine entry; without it, the entry is looked up.
    `changes` is called for the record of an earlier decoder, and returns what the present one reads
    differently in the media; without it nothing does.
    """
    header = store.header(set_name, clip_id)
    state, reason = _record_state(header, source, changes)
    entry = None
    if state != "complete" and not isinstance(source, MediaError):
        if quarantined is None or clip_id in quarantined:
            entry = read_entry(store.work, set_name, clip_id)
        if entry and source is not None and not is_valid(entry, source, decoder):
            entry = None
    if entry:
        state, reason = "quarantined", f"{entry.code}: {entry.message}"
    elif (state, reason) == (NO_RECORD.state, NO_RECORD.reason):
        return NO_RECORD  # one object for a million clips
    digest = header.commit.digest if header.commit else None
    return ClipState(state, reason, digest, header.n_bytes, entry)


def compare_media(
    store: FeatureStore,
    spec: FeatureSpec,
    clip_id: str,
    media: Source,
    digests: SourceDigests,
    decoder: DecoderVersion,
    quarantined: Collection[str] | None = None,
) -> tuple[ClipState, JsonObject | MediaError]:
    """Return the state of a clip by its media, and the media's digests or why it has none.

    The modality of the spec must be known. Our decoder did not read what was imported, so that its
    changes make no such record stale.
    """
    modality = spec.modality
    assert modality
    try:
        source = digests.of(media, modality)
    except MediaError as error:
        source = error
    if spec.imported and isinstance(source, dict):
        # the files of an import are not at hand: only another import compares them
        commit = store.header(spec.name, clip_id).commit
        if commit and IMPORTED_ROWS in commit.source:
            source |= {IMPORTED_ROWS: commit.source[IMPORTED_ROWS]}
    changes = None if spec.imported else partial(digests.changes, media, modality)
    return clip_state(store, spec.name, clip_id, source, decoder, quarantined, changes), source


def _record_state(
    header: RecordHeader, source: JsonObject | MediaError | None, changes: Callable[[], str] | None
) -> tuple[State, str]:
    if header.fault:
        return "corrupt", header.fault
    if header.commit is None:
        return "missing", str(source) if isinstance(source, MediaError) else NO_RECORD.reason
    if isinstance(source, MediaError):
        return "stale", f"the media that it was extracted from is no longer available: {source}"
    before, now = header.commit.source, header.commit.source if source is None else source
    if changed := [key for key in now | before if now.get(key) != before.get(key)]:
        return "stale", f"source changed: {', '.join(changed)}"
    if header.commit.decoding < DECODING and changes and (differing := changes()):
        return ("stale", f"decoded by an earlier version; this one reads differently: {differing}")
    return "complete", header.commit.note or ""
