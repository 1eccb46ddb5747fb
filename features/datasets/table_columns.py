"""Which column of a table is the clip, the time, valence and so on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from features.errors import InputError

SYNONYMS = {
    "clip": ("clip", "clip_id", "video_id", "id", "clip_name", "video_name"),
    "path": ("path", "video", "file", "filename", "file_name", "video_path", "file_path", "media"),
    "subject": ("subject", "subject_id", "speaker", "speaker_id", "person", "participant", "actor"),
    "time": ("time", "time_s", "time_ms", "timestamp", "timestamp_s", "timestamp_ms", "seconds"),
    "start": ("start", "start_s", "start_ms", "start_time", "onset"),
    "end": ("end", "end_s", "end_ms", "end_time"),
    "frame": ("frame", "frame_number", "frame_id", "frame_index", "frame_no"),
    "valence": ("valence", "v"),
    "arousal": ("arousal", "activation", "a"),
    "valid": ("valid", "is_valid", "annotated"),
    "split": ("split", "partition", "subset", "set"),
}
"""The names by which a column is recognised: in lower case, with `_` for spaces."""


class Columns(BaseModel):
    """The name of the column of each role; null says that the table has none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    clip: str | None = None
    path: str | None = None
    subject: str | None = None
    time: str | None = None
    start: str | None = None
    end: str | None = None
    frame: str | None = None
    valence: str | None = None
    arousal: str | None = None
    valid: str | None = None
    split: str | None = None


@dataclass(frozen=True, slots=True)
class FoundColumns:
    """The columns of a table by role."""

    roles: dict[str, str]
    clock: tuple[str, ...]
    """The roles that say when a row is: frame, time, start and end, or none."""
    time_unit: Literal["s", "ms"]
    """According to the name of the column of times."""
    ignored: tuple[str, ...]


def find_columns(table: Path, header: list[str], given: Columns) -> FoundColumns:
    """Return the given columns, and the others by their usual names.

    Raises `InputError` if a column is missing, or could be meant in two ways.
    """
    roles = {role: name for role in SYNONYMS if (name := getattr(given, role)) is not None}
    for role, name in roles.items():
        if name not in header:
            raise InputError(
                f"{table} has no column {name!r} (columns.{role}); it has {_list(header)}"
            )
    free = [name for name in header if name not in roles.values()]
    for role, names in SYNONYMS.items():
        if role in given.model_fields_set:
            continue
        like = [name for name in free if name.strip().lower().replace(" ", "_") in names]
        if len(like) > 1:
            raise InputError(
                f"{table}: the columns {_list(like)} could all be the {role}; say which with "
                f"columns.{role}=NAME, or null for none"
            )
        if like:
            roles[role] = like[0]
    roles = {role: roles[role] for role in SYNONYMS if role in roles}
    for role in ("valence", "arousal"):
        if role not in roles:
            raise InputError(
                f"{table}: no column is known to be {role}; it has {_list(header)}: say which with "
                f"columns.{role}=NAME"
            )
    if not roles.keys() & {"clip", "path"}:
        raise InputError(
            f"{table}: no column is known to name the clip or its file; it has {_list(header)}: "
            "say which with columns.clip=NAME or columns.path=NAME"
        )
    clocks = [c for c in (("frame",), ("time",), ("start", "end")) if roles.keys() & {*c}]
    if len(clocks) > 1:
        named = _list([roles[role] for clock in clocks for role in clock if role in roles])
        raise InputError(
            f"{table}: the columns {named} all say when a row is; leave all but one clock out, "
            f"with columns.{clocks[1][0]}=null for example"
        )
    clock = clocks[0] if clocks else ()
    if missing := [role for role in clock if role not in roles]:
        raise InputError(
            f"{table}: a span needs a start and an end, and no column is known to be the "
            f"{missing[0]}; say which with columns.{missing[0]}=NAME"
        )
    in_ms = any(roles[role].lower().rstrip(")] ").endswith("ms") for role in clock)
    ignored = tuple(name for name in header if name not in roles.values())
    return FoundColumns(roles, clock, "ms" if in_ms else "s", ignored)


def _list(names: list[str]) -> str:
    return ", ".join(map(repr, names))
