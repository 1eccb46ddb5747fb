"""The quarantine: one file for each clip that could not be decoded, so that it is not tried again.

    <store>.work/quarantine/<feature set>/<clip id>.json

An entry is valid while the digests of the clip's media and the version of the decoder are the same.
After a clip passed a limit, or crashed the decoder, its entry is valid while the limits are the
same. A damaged entry counts as missing: the clip is tried once more.
"""

import json
from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from features.canonical_json import JsonObject, canonical
from features.clip import ClipId
from features.errors import MediaCode
from features.media.decoder_version import DecoderVersion
from features.media.limits import DecodeLimits
from features.store.work_folder import quarantine_file, quarantine_folder
from features.system.files import write_atomic

MAX_MESSAGE_LENGTH = 4000  # characters; a longer message of the decoder is cut
TRANSIENT_CODES: tuple[MediaCode, ...] = ("missing", "unreadable", "not-finite", "faces")
"""Codes of failures that are not due to the media's content: the clip is tried in every run."""
NAMES_IN_FILE = {"feature_set": "spec", "message": "words", "decoder": "extractor"}
"""Fields that have another name in the file, so that old files stay readable."""


class QuarantineEntry(BaseModel):
    """Why a feature set lacks one clip."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=lambda name: NAMES_IN_FILE.get(name, name),
        validate_by_name=True,
    )

    clip: ClipId
    feature_set: str
    code: MediaCode
    message: str = Field(max_length=MAX_MESSAGE_LENGTH)
    """The decoder's message."""
    source: JsonObject
    """Digests of the media that could not be decoded, by part."""
    decoder: str
    """`DecoderVersion.name` of the decoder that failed."""
    limits: DecodeLimits | None
    """The limits of that decoder."""
    made_at: AwareDatetime


def is_valid(entry: QuarantineEntry, source: JsonObject, decoder: DecoderVersion) -> bool:
    """Return whether this decoder would fail again on the media with these digests."""
    if (entry.source, entry.decoder) != (source, decoder.name):
        return False
    depends_on_limits = entry.code.startswith("limit-") or entry.code == "crashed"
    return not depends_on_limits or decoder.limits in (None, entry.limits)


def read_entry(work: Path, set_name: str, clip_id: str) -> QuarantineEntry | None:
    """Return the clip's entry in a store's work folder; None if it is missing or damaged."""
    try:
        with open(quarantine_file(work, set_name, clip_id), "rb") as file:
            entry = QuarantineEntry.model_validate(json.load(file))
    except (OSError, ValueError, RecursionError, ValidationError):
        return None  # the clip is tried once more
    return entry if (entry.feature_set, entry.clip) == (set_name, clip_id) else None


def entries_of(work: Path, set_name: str) -> set[str]:
    """Return the ids of a feature set's clips that have an entry, valid or not."""
    return {path.stem for path in quarantine_folder(work, set_name).glob("*.json")}


def write_entry(
    work: Path,
    set_name: str,
    clip_id: str,
    *,
    code: MediaCode,
    message: str,
    source: JsonObject,
    decoder: DecoderVersion,
) -> QuarantineEntry:
    """Write the clip's entry, replace an older one, and return it.

    Raises `OSError`, which names the file, if it cannot be written.
    """
    entry = QuarantineEntry(
        clip=clip_id,
        feature_set=set_name,
        code=code,
        message=message[:MAX_MESSAGE_LENGTH],
        source=source,
        decoder=decoder.name,
        limits=decoder.limits,
        made_at=datetime.now(UTC),
    )
    path = Path(quarantine_file(work, set_name, clip_id))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, canonical(entry.model_dump(mode="json", by_alias=True)), work)
    return entry


def delete_entry(work: Path, set_name: str, clip_id: str) -> None:
    """Delete the clip's entry, if there is one."""
    Path(quarantine_file(work, set_name, clip_id)).unlink(missing_ok=True)
