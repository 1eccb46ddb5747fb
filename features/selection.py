"""A part of a manifest: the clips that are named, or those that could not be decoded."""

from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from features.errors import InputError
from features.manifest import Manifest
from features.quarantine import read_quarantine


def selected(clips: Manifest, only: Sequence[str]) -> Manifest:
    """The clips with these ids, or all where there is no id; `InputError` names a wrong one."""
    if not only:
        return clips
    known = {clip.id: clip for clip in clips.clips}
    for wanted in only:
        if wanted not in known:
            near = get_close_matches(wanted, known, n=1, cutoff=0.0)[0]
            raise InputError(f"only: the manifest has no clip {wanted!r}; did you mean {near!r}?")
    return replace(clips, clips=tuple(clip for clip in clips.clips if clip.id in set(only)))


def in_quarantine(clips: Manifest, work: Path, set_names: Sequence[str]) -> Manifest:
    """The clips that one of the feature sets could not have."""
    there = (
        clip
        for clip in clips.clips
        if any(read_quarantine(work, name, clip.id) for name in set_names)
    )
    return replace(clips, clips=tuple(there))
