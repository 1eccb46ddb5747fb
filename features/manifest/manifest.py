"""The manifest of a data set: one JSON object per line and clip."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from features.clip import Clip, Source
from features.config_errors import describe
from features.errors import InputError
from features.system.files import write_if_changed
from features.system.memory import gc_paused

KEYS = set(Clip.model_fields)


@dataclass(frozen=True, slots=True)
class Manifest:
    """The clips of a manifest, and the folder that their paths are relative to."""

    root: Path
    clips: tuple[Clip, ...]

    def path(self, inner: str) -> Path:
        """The path on this machine of a path in the manifest."""
        return self.root / inner

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
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                clip = _clip(path, number, line)
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
    return Manifest(path.resolve().parent, tuple(clips))


def write_manifest(path: Path, clips: Iterable[Clip]) -> None:
    """Write a manifest in one step, unless the file is the same already.

    A byte of a name that is no UTF-8 is written as JSON's escape of its lone surrogate.
    """
    lines = [json.dumps(clip.model_dump(), ensure_ascii=False) + "\n" for clip in clips]
    write_if_changed(path, "".join(lines).encode(errors="backslashreplace"))


def _clip(path: Path, number: int, line: str) -> Clip:
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
    try:
        clip = Clip.model_validate(fields)
    except ValidationError as error:
        raise InputError(f"{path}, line {number}: {describe(error, Clip)}") from None
    # all clips share one set, which saves memory for a million of them
    object.__setattr__(clip, "__pydantic_fields_set__", KEYS)
    return clip


def _reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(unique := dict(pairs)) == len(pairs):
        return unique
    keys = [key for key, _ in pairs]
    raise ValueError(f"the key {min(k for k in keys if keys.count(k) > 1)!r} comes twice")


DECODER = json.JSONDecoder(object_pairs_hook=_reject_duplicate_keys)
