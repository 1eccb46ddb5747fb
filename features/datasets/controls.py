"""Negative controls: copies of a manifest in which one input no longer predicts the labels.

A head that is trained on a control must score near zero; if it does not, it predicts the labels
from other information than face and voice. The files of a control are in a folder beside its
manifest, with the manifest's name. All other paths stay relative to the folder that both share.
"""

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from features.clip import Clip
from features.errors import InputError
from features.manifest.labels import read_labels, write_labels
from features.manifest.manifest import Manifest, write_manifest
from features.media.crops import crop_files, read_image

OVAL = (0.92, 1.0)  # half axes of the painted oval, relative to half the sides of a crop
PAINT = (128, 128, 128)
JPEG_QUALITY = 90


def permute_labels(manifest: Manifest, control: Path, seed: int) -> None:
    """Write the control in which every clip has the labels of another clip of its split.

    The labels are stretched in time to the clip's number of rows. Clips without labels or split are
    left out. Raises `InputError` if a split has only one clip with labels.
    """
    folder = _make_empty_folder(control)
    clips: list[Clip] = []
    for group in _by_split([clip for clip in manifest.clips if clip.labels]):
        labels = {clip.id: read_labels(manifest.path(clip.labels or "")) for clip in group}
        source = derangement([clip.id for clip in group], np.random.default_rng(seed))
        for clip in group:
            path, other = folder / f"{clip.id}.txt", labels[source[clip.id]]
            steps = np.linspace(0, len(other.va) - 1, len(labels[clip.id].va))
            nearest = np.round(steps).astype(np.int64)  # in time
            va, valid = other.va[nearest], other.valid[nearest]
            write_labels(path, replace(labels[clip.id], va=va, valid=valid))
            clips.append(clip.model_copy(update={"labels": _relative(path, control)}))
    write_manifest(control, clips, manifest.allow_outside)


def paint_faces(manifest: Manifest, control: Path) -> None:
    """Write the control in which an oval of one colour covers the face in every crop."""
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
            clips.append(clip.model_copy(update={"frames": _relative(target, control)}))
    write_manifest(control, clips, manifest.allow_outside)


def permute_audio(manifest: Manifest, control: Path, seed: int) -> None:
    """Write the control in which every video has the sound of another video of its split.

    Clips without a split are left out. Raises `InputError` if a split has only one video.
    """
    clips: list[Clip] = []
    for group in _by_split(manifest.clips):
        files = {clip.id: clip.audio or clip.video or "" for clip in group}
        for clip_id, file in files.items():
            if not file:
                raise InputError(
                    f"clip {clip_id!r} has neither video nor audio: there is no sound to exchange"
                )
        names = list(dict.fromkeys(files.values()))  # two people may share one
        source = derangement(names, np.random.default_rng(seed))
        clips += [clip.model_copy(update={"audio": source[files[clip.id]]}) for clip in group]
    write_manifest(control, clips, manifest.allow_outside)


def derangement(names: Sequence[str], rng: np.random.Generator) -> dict[str, str]:
    """Return a random permutation without fixed point; raise `InputError` for a single name."""
    if len(names) < 2:
        raise InputError(
            f"{', '.join(names)} is alone in its split: there is no other to exchange it with; "
            "add clips to the data set"
        )
    shuffled = rng.permutation(names).tolist()
    return dict(zip(shuffled, [*shuffled[1:], shuffled[0]], strict=True))


def _paint(target: Path, crop: Path) -> None:
    image = Image.fromarray(read_image(crop))
    x, y = (side / 2 for side in image.size)
    box = (x - OVAL[0] * x, y - OVAL[1] * y, x + OVAL[0] * x, y + OVAL[1] * y)
    ImageDraw.Draw(image).ellipse(box, fill=PAINT)
    image.save(target / f"{crop.stem}.jpg", quality=JPEG_QUALITY)


def _by_split(clips: Sequence[Clip]) -> list[list[Clip]]:
    splits = list(dict.fromkeys(clip.split for clip in clips if clip.split))
    return [[clip for clip in clips if clip.split == split] for split in splits]


def _make_empty_folder(control: Path) -> Path:
    """Create the folder of a control's files, without the files of an earlier run."""
    folder = control.with_suffix("")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _relative(path: Path, control: Path) -> str:
    return path.relative_to(control.parent).as_posix()
