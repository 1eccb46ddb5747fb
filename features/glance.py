"""What one sees of a record without reading its arrays: its commit, and which files are there."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from features.errors import StoreError
from features.record_form import METADATA
from features.records import JsonObject
from features.store_record import Commit, read_commit

State = Literal["complete", "missing", "stale", "corrupt"]


@dataclass(frozen=True, slots=True)
class Glance:
    """One record, as far as it was looked at."""

    commit: Commit | None
    n_bytes: int = 0
    """Of its files, the commit's own included."""
    fault: str = ""
    """Why it cannot be what was committed."""


def glance(folder: Path | str) -> Glance:
    """A record's commit, and whether the files that it names are there.

    `LaterVersion` where the commit says what we do not know.
    """
    try:
        commit = read_commit(folder)
        if commit is None:
            return Glance(None)
        sizes = [_size(folder, name) for name in (METADATA, *commit.files)]
    except StoreError as error:
        return Glance(None, fault=str(error))
    return Glance(commit, sum(sizes))


def _size(folder: Path | str, name: str) -> int:
    """The bytes of a file of a record; `StoreError` where it is not there, or empty."""
    try:
        found = os.lstat(f"{folder}/{name}")
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(f"{name} is missing") from None
    if not stat.S_ISREG(found.st_mode):
        raise StoreError(f"{name} is a link or no file")
    if found.st_size == 0:
        raise StoreError(f"{name} is empty")
    return found.st_size


def judged(seen: Glance, source: JsonObject) -> tuple[State, str]:
    """How what was seen of a record stands to the media that it should be made from, and why."""
    if seen.fault:
        return "corrupt", seen.fault
    if seen.commit is None:
        return "missing", "no record"
    before = seen.commit.source
    if changed := [key for key in source | before if source.get(key) != before.get(key)]:
        return "stale", f"source changed: {', '.join(changed)}"
    return "complete", seen.commit.note or ""
