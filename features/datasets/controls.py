"""Control sets: a manifest like another, of which one thing no longer tells valence or arousal.

What is trained and scored on a control set must fail; where it does not, something else than
face and voice tells the labels. Files of a control set lie beside its manifest, in a folder of
its name; all other paths are those of the first manifest, so both lie in one folder.
"""

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from features.clip import Clip
from features.errors import InputError
from features.manifest.labels import Labels, read_labels, write_labels
from features.manifest.manifest import Manifest, write_manifest
from features.media.crops import crop_files, read_image

OVAL = (0.92, 1.0)  # half axes of the paint over a face, in half the sides of its crop
PAINT = (128, 128, 128)
JPEG_QUALITY = 90


def deal_labels(manifest: Manifest, control: Path, seed: int) -> None:
    """Write the control set in which every clip has the whole labels of another of its split.

    They are stretched in time to the clip's own number of rows. `InputError` for a split with
    labels that has a single clip.
    """
    folder = _make_empty_folder(control)
    clips: list[Clip] = []
    for group in _by_split([clip for clip in manifest.clips if clip.labels]):
        labels = {clip.id: read_labels(manifest.path(clip.labels or "")) for clip in group}
        giver = derangement([clip.id for clip in group], np.random.default_rng(seed))
        for clip in group:
            path = folder / f"{clip.id}.txt"
            n_rows = len(labels[clip.id].va)
            write_labels(path, _stretch_labels(labels[giver[clip.id]], n_rows))
            clips.append(clip.model_copy(update={"labels": _inner(path, control)}))
    write_manifest(control, clips)


def paint_faces(manifest: Manifest, control: Path) -> None:
    """Write the control set in which an oval of paint covers the face in every crop."""
    folder = _make_empty_folder(control)
    clips: list[Clip] = []
    with ThreadPoolExecutor() as pool:
        for clip in manifest.clips:
            if clip.frames is None:
                raise InputError(f"clip {clip.id!r} has no crops: there is no face to paint over")
            target = folder / clip.id
            target.mkdir()
            crops = crop_files(manifest.path(clip.frames)).values()
            list(pool.map(partial(_paint, target), crops))
            clips.append(clip.model_copy(update={"frames": _inner(target, control)}))
    write_manifest(control, clips)


def deal_sound(manifest: Manifest, control: Path, seed: int) -> None:
    """Write the control set in which every video has the sound of another of its split.

    `InputError` for a split that has a single video.
    """
    clips: list[Clip] = []
    for group in _by_split(manifest.clips):
        sounds = [_sound_of(clip) for clip in group]  # two people may share one
        giver = derangement(list(dict.fromkeys(sounds)), np.random.default_rng(seed))
        clips += [
            clip.model_copy(update={"audio": giver[sound]})
            for clip, sound in zip(group, sounds, strict=True)
        ]
    write_manifest(control, clips)


def derangement(names: Sequence[str], rng: np.random.Generator) -> dict[str, str]:
    """For each name another one, each once: a derangement. `InputError` for a single name."""
    if len(names) < 2:
        raise InputError(
            f"{', '.join(names)} is alone in its split: there is no other to deal from; "
            "render or index more clips"
        )
    shuffled = rng.permutation(names).tolist()
    return dict(zip(shuffled, [*shuffled[1:], shuffled[0]], strict=True))


def _stretch_labels(labels: Labels, n_rows: int) -> Labels:
    """The labels with so many rows, each the nearest in time; marks stay marks."""
    nearest = np.round(np.linspace(0, len(labels.va) - 1, n_rows)).astype(np.int64)
    return Labels(labels.va[nearest], labels.valid[nearest])


def _paint(target: Path, crop: Path) -> None:
    """One crop with paint over the face."""
    picture = Image.fromarray(read_image(crop))
    x, y = (side / 2 for side in picture.size)
    box = (x - OVAL[0] * x, y - OVAL[1] * y, x + OVAL[0] * x, y + OVAL[1] * y)
    ImageDraw.Draw(picture).ellipse(box, fill=PAINT)
    picture.save(target / f"{crop.stem}.jpg", quality=JPEG_QUALITY)


def _sound_of(clip: Clip) -> str:
    """The file that holds the clip's sound."""
    if sound := clip.audio or clip.video:
        return sound
    raise InputError(f"clip {clip.id!r} has neither video nor audio: there is no sound to deal")


def _by_split(clips: Sequence[Clip]) -> list[list[Clip]]:
    """The clips of each split, in order; those of none are left out."""
    splits = list(dict.fromkeys(clip.split for clip in clips if clip.split))
    return [[clip for clip in clips if clip.split == split] for split in splits]


def _make_empty_folder(control: Path) -> Path:
    """The folder of a control's files, without what an earlier one left."""
    folder = control.with_suffix("")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _inner(path: Path, control: Path) -> str:
    """The path as the control's manifest names it."""
    return path.relative_to(control.parent).as_posix()
