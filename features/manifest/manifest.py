"""The manifest: JSON lines, one clip each, that every stage reads."""

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
    """Clips, and the folder their paths are relative to."""

    root: Path
    clips: tuple[Clip, ...]

    def path(self, inner: str) -> Path:
        """Where a path of the manifest lies on this machine."""
        return self.root / inner

    def source(self, clip: Clip) -> Source:
        """Where the clip's media lies on this machine."""
        return Source(
            clip_id=clip.id,
            video=self.path(clip.video) if clip.video else None,
            frames=self.path(clip.frames) if clip.frames else None,
            audio=self.path(clip.audio) if clip.audio else None,
            fps=clip.fps,
        )


@gc_paused()
def read_manifest(path: Path) -> Manifest:
    """The manifest in a file; `InputError` names the first line that breaks a rule."""
    if not path.is_file():
        raise InputError(
            f"there is no manifest at {path}; `vaflow index affwild2 ROOT -o {path}` writes one"
        )
    clips: list[Clip] = []
    line_of: dict[str, int] = {}
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                clip = _clip(path, number, line)
                folded = clip.id.casefold()  # ids name folders, and some file systems fold case
                if folded in line_of:
                    raise InputError(
                        f"{path}, line {number}: the id {clip.id!r} stands already in line "
                        f"{line_of[folded]}; ids must differ in more than case"
                    )
                clips.append(clip)
                line_of[folded] = number
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text file (UTF-8): {error}") from error
    if not clips:
        raise InputError(f"{path} has no line; a manifest holds one JSON object per clip")
    return Manifest(path.resolve().parent, tuple(clips))


def write_manifest(path: Path, clips: Iterable[Clip]) -> None:
    """Write a manifest whole or not at all; one that is there already is left alone."""
    lines = [json.dumps(clip.model_dump(), ensure_ascii=False) + "\n" for clip in clips]
    write_if_changed(path, "".join(lines).encode())


def _clip(path: Path, number: int, line: str) -> Clip:
    """The clip of one line."""
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
    object.__setattr__(clip, "__pydantic_fields_set__", KEYS)  # one set for a million clips
    return clip


def _reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs; `ValueError` where a key comes twice."""
    if len(found := dict(pairs)) == len(pairs):
        return found
    keys = [key for key, _ in pairs]
    raise ValueError(f"the key {min(k for k in keys if keys.count(k) > 1)!r} comes twice")


DECODER = json.JSONDecoder(object_pairs_hook=_reject_duplicate_keys)


def select(clips: Manifest, only: Sequence[str]) -> Manifest:
    """The clips with these ids, or all where there is no id; `InputError` names a wrong one."""
    if not only:
        return clips
    known = {clip.id: clip for clip in clips.clips}
    for wanted in only:
        if wanted not in known:
            near = get_close_matches(wanted, known, n=1, cutoff=0.0)[0]
            raise InputError(f"only: the manifest has no clip {wanted!r}; did you mean {near!r}?")
    return replace(clips, clips=tuple(clip for clip in clips.clips if clip.id in set(only)))
