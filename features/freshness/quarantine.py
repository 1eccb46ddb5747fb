"""Clips that could not be decoded, each remembered in a file: none is tried again for nothing.

<store>.work/quarantine/<feature set>/<clip id>.json

A record stands while the clip's source and what decodes it are the same; one of a clip that passed
a limit, or brought its decoder down, while the limits are. One that is damaged is as none: the clip
is tried once more.
"""

import json
import os
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

WORDS_LENGTH = 4000  # characters that are kept of what the decoder said
PASSING: tuple[MediaCode, ...] = ("missing", "unreadable", "not-finite")
"""Failures that are not of the media's content: such a clip is tried each time."""


class QuarantineEntry(BaseModel):
    """One clip that a feature set cannot have, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    clip: ClipId
    spec: str
    """The feature set's name."""
    code: MediaCode
    """The reason."""
    words: str = Field(max_length=WORDS_LENGTH)
    """What the decoder said."""
    source: JsonObject
    """Content of the media that was tried: a digest per part."""
    extractor: str
    """The name of what tried it."""
    limits: DecodeLimits | None
    """Within which it was tried."""
    made_at: AwareDatetime


def is_valid(record: QuarantineEntry, source: JsonObject, extractor: DecoderVersion) -> bool:
    """Whether the clip would fail once more: neither its media nor what decodes it has changed."""
    if (record.source, record.extractor) != (source, extractor.name):
        return False
    is_of_limits = record.code.startswith("limit-") or record.code == "crashed"
    return not is_of_limits or extractor.limits in (None, record.limits)


def read_entry(work: Path, set_name: str, clip_id: str) -> QuarantineEntry | None:
    """The clip's record in a store's work folder, or None where there is none that can be read."""
    try:
        with open(quarantine_file(work, set_name, clip_id), "rb") as file:
            record = QuarantineEntry.model_validate(json.load(file))
    except (OSError, ValueError, RecursionError, ValidationError):
        return None  # to try a clip once too often costs time, and hides nothing
    return record if (record.spec, record.clip) == (set_name, clip_id) else None


def entries_of(work: Path, set_name: str) -> set[str]:
    """The clips of a feature set that have a record in quarantine, whether it stands or not."""
    try:
        return {
            name.removesuffix(".json") for name in os.listdir(quarantine_folder(work, set_name))
        }
    except (FileNotFoundError, NotADirectoryError):
        return set()


def write_entry(
    work: Path,
    set_name: str,
    clip_id: str,
    *,
    code: MediaCode,
    words: str,
    source: JsonObject,
    extractor: DecoderVersion,
) -> QuarantineEntry:
    """Remember that a clip cannot be decoded, in the place of what was remembered before.

    `OSError` names the record's file where the disk does not take it.
    """
    record = QuarantineEntry(
        clip=clip_id,
        spec=set_name,
        code=code,
        words=words[:WORDS_LENGTH],
        source=source,
        extractor=extractor.name,
        limits=extractor.limits,
        made_at=datetime.now(UTC),
    )
    place = _place(work, set_name, clip_id)
    place.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(place, canonical(record.model_dump(mode="json")), work)
    return record


def delete_entry(work: Path, set_name: str, clip_id: str) -> None:
    """Forget what is remembered of a clip, if anything is: it has come through."""
    _place(work, set_name, clip_id).unlink(missing_ok=True)


def _place(work: Path, set_name: str, clip_id: str) -> Path:
    """The file of a clip's record."""
    return Path(quarantine_file(work, set_name, clip_id))
