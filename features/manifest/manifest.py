"""The manifest of a data set: one JSON object per line and clip.

A first line `{"allow_outside": [FOLDER, ...]}` allows absolute paths below these folders. Without
it, all paths stay inside the manifest's folder, so that the manifest of a stranger names no other
file of this machine unless its first line says so.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

from features.clip import PATH_FIELDS, Clip, Source
from features.config_errors import describe
from features.errors import InputError
from features.system.files import write_if_changed
from features.system.memory import gc_paused

KEYS = set(Clip.model_fields)
ALLOW_OUTSIDE = "allow_outside"


@dataclass(frozen=True, slots=True)
class Manifest:
    """The clips of a manifest, and the folder that their paths are relative to."""

    root: Path
    clips: tuple[Clip, ...]
    allow_outside: tuple[str, ...] = ()
    """Folders below which paths may be absolute."""

    def path(self, written: str) -> Path:
        """The path on this machine of a path in the manifest."""
        return self.root / written  # an absolute one stays as it is

    def source(self, clip: Clip) -> Source:
        """The paths on this machine of a clip's media."""
        return Source(
            clip_id=clip.id,
            video=self.path(clip.video) if clip.video else None,
            frames=self.path(clip.frames) if clip.frames else None,
            audio=self.path(clip.audio) if clip.audio else None,
            fps=clip.fps,
            video_track=clip.video_track,
            audio_track=clip.audio_track,
            audio_offset_s=clip.audio_offset_s,
            person=clip.person,
        )

    def select(self, ids: Sequence[str]) -> "Manifest":
        """The clips with these ids in the manifest's order, or all if there are none.

        Raises `InputError` that names an unknown id.
        """
        if not ids:
            return self
        known = {clip.id for clip in self.clips}
        for clip_id in ids:
            if clip_id not in known:
                near = get_close_matches(clip_id, known, n=1, cutoff=0.0)[0]
                raise InputError(
                    f"only: the manifest has no clip {clip_id!r}; did you mean {near!r}?"
                )
        return replace(self, clips=tuple(clip for clip in self.clips if clip.id in set(ids)))


@gc_paused()
def read_manifest(path: Path) -> Manifest:
    """The manifest in a file; raises `InputError` that names the first invalid line."""
    if not path.is_file():
        raise InputError(
            f"there is no manifest at {path}; `vaflow index affwild2 ROOT -o {path}` writes one"
        )
    clips: list[Clip] = []
    line_numbers: dict[str, int] = {}
    allowed: tuple[str, ...] | None = None
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                fields = _fields(path, number, line)
                if allowed is None:
                    allowed = _allowed(path, number, fields)
                    if allowed:
                        continue
                clip = _clip(path, number, fields, allowed)
                folded = clip.id.casefold()  # ids name folders, and some file systems ignore case
                if folded in line_numbers:
                    raise InputError(
                        f"{path}, line {number}: the id {clip.id!r} is already in line "
                        f"{line_numbers[folded]}; ids must differ in more than case"
                    )
                clips.append(clip)
                line_numbers[folded] = number
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text file (UTF-8): {error}") from error
    if not clips:
        raise InputError(f"{path} has no line; a manifest holds one JSON object per clip")
    return Manifest(path.resolve().parent, tuple(clips), allowed or ())


def write_manifest(path: Path, clips: Iterable[Clip], allow_outside: Sequence[str] = ()) -> None:
    """Write a manifest in one step, unless the file is the same already.

    A byte of a name that is no UTF-8 is written as JSON's escape of its lone surrogate.
    """
    header = [{ALLOW_OUTSIDE: list(allow_outside)}] if allow_outside else []
    objects = [*header, *(clip.model_dump() for clip in clips)]
    lines = [json.dumps(each, ensure_ascii=False) + "\n" for each in objects]
    write_if_changed(path, "".join(lines).encode(errors="backslashreplace"))


def _fields(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        fields = DECODER.decode(line.strip())
    except RecursionError:
        raise InputError(f"{path}, line {number}: nested too deeply for a line of JSON") from None
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}, line {number}: not JSON ({error.msg} at column {error.colno}); "
            'each line must be one object such as {"id": "12", "video": "12.mp4"}'
        ) from None
    except ValueError as error:
        raise InputError(f"{path}, line {number}: {error}") from None
    if not isinstance(fields, dict):
        raise InputError(
            f"{path}, line {number}: a {type(fields).__name__}, but each line must be one object "
            'such as {"id": "12", "video": "12.mp4"}'
        )
    return fields


def _allowed(path: Path, number: int, fields: dict[str, Any]) -> tuple[str, ...]:
    """Return the folders that a first line allows; none if it is a clip."""
    if ALLOW_OUTSIDE not in fields or "id" in fields:
        return ()
    folders = fields[ALLOW_OUTSIDE]
    listed = [*folders] if isinstance(folders, list) and len(fields) == 1 else []
    absolute = [each for each in listed if isinstance(each, str) and each.startswith("/")]
    if not listed or len(absolute) < len(listed) or any(".." in f.split("/") for f in absolute):
        raise InputError(
            f"{path}, line {number}: {ALLOW_OUTSIDE} must be alone in its line and list "
            'absolute folders without `..`, such as {"allow_outside": ["/data/videos"]}'
        )
    return tuple(absolute)


def _clip(path: Path, number: int, fields: dict[str, Any], allowed: Sequence[str]) -> Clip:
    try:
        clip = Clip.model_validate(fields)
    except ValidationError as error:
        raise InputError(f"{path}, line {number}: {describe(error, Clip)}") from None
    for name in PATH_FIELDS:
        written: str | None = getattr(clip, name)
        if written and written.startswith("/") and not is_below(written, allowed):
            raise InputError(
                f"{path}, line {number}: {name} = {written!r}: the path must be relative to the "
                "manifest's folder and stay inside it, or be below a folder that the first line "
                f"allows ({', '.join(allowed) or 'it allows none'}); allow one with "
                "--allow-outside ROOT of `vaflow index`, or write a first line such as "
                '{"allow_outside": ["/data/videos"]}'
            )
    # all clips share one set, which saves memory for a million of them
    object.__setattr__(clip, "__pydantic_fields_set__", KEYS)
    return clip


def is_below(path: str, folders: Sequence[str]) -> bool:
    """Whether an absolute path without `..` is one of the folders, or below one."""
    return any(PurePosixPath(path).is_relative_to(folder) for folder in folders)


def _reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(unique := dict(pairs)) == len(pairs):
        return unique
    keys = [key for key, _ in pairs]
    raise ValueError(f"the key {min(k for k in keys if keys.count(k) > 1)!r} comes twice")


DECODER = json.JSONDecoder(object_pairs_hook=_reject_duplicate_keys)
