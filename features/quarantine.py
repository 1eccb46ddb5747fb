"""Clips that could not be decoded, each remembered in a file: none is tried again for nothing.

<store>.work/quarantine/<feature set>/<clip id>.json

A record stands while the clip's source and what decodes it are the same. One that is damaged is as
none: the clip is tried once more.
"""

import json
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import av
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from features.durable import write_whole
from features.errors import MediaCode
from features.records import ClipId, JsonObject
from features.spec import canonical

FOLDER = "quarantine"
DECODING = 1  # raised when the code comes to decode, or to refuse, what it did not before
WORDS_LENGTH = 4000  # characters that are kept of what the decoder said
PASSING: tuple[MediaCode, ...] = ("missing", "unreadable", "not-finite")
"""Failures that are not of the media's content: such a clip is tried each time."""


class Quarantined(BaseModel):
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
    """What tried it, as `extractor` names it."""
    made_at: AwareDatetime


def extractor() -> str:
    """The name of what decodes here: our own code, and the libraries that it calls."""
    libraries = (f"PyAV {version('av')}", f"FFmpeg {av.ffmpeg_version_info}")
    return ", ".join([f"decoding {DECODING}", *libraries, f"Pillow {version('pillow')}"])


def stands(record: Quarantined, source: JsonObject, extractor: str) -> bool:
    """Whether the clip would fail once more: neither its media nor what decodes it has changed."""
    return record.source == source and record.extractor == extractor


def read_quarantine(work: Path, set_name: str, clip_id: str) -> Quarantined | None:
    """The clip's record in a store's work folder, or None where there is none that can be read."""
    try:
        record = Quarantined.model_validate(json.loads(_place(work, set_name, clip_id).read_text()))
    except (OSError, ValueError, RecursionError, ValidationError):
        return None  # to try a clip once too often costs time, and hides nothing
    return record if (record.spec, record.clip) == (set_name, clip_id) else None


def put_in_quarantine(
    work: Path,
    set_name: str,
    clip_id: str,
    *,
    code: MediaCode,
    words: str,
    source: JsonObject,
    extractor: str,
) -> Quarantined:
    """Remember that a clip cannot be decoded, in the place of what was remembered before.

    `OSError` names the record's file where the disk does not take it.
    """
    record = Quarantined(
        clip=clip_id,
        spec=set_name,
        code=code,
        words=words[:WORDS_LENGTH],
        source=source,
        extractor=extractor,
        made_at=datetime.now(UTC),
    )
    place = _place(work, set_name, clip_id)
    place.parent.mkdir(parents=True, exist_ok=True)
    write_whole(place, canonical(record.model_dump(mode="json")), work)
    return record


def release(work: Path, set_name: str, clip_id: str) -> None:
    """Forget what is remembered of a clip, if anything is: it has come through."""
    _place(work, set_name, clip_id).unlink(missing_ok=True)


def _place(work: Path, set_name: str, clip_id: str) -> Path:
    """The file of a clip's record."""
    return work / FOLDER / set_name / f"{clip_id}.json"
