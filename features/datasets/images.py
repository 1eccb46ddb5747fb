"""Images of a data set as the folders of crops that a manifest names: links, or aligned faces."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from PIL import Image

from features.canonical_json import canonical_sha256
from features.errors import InputError, MediaError
from features.media.alignment import AlignmentConfig
from features.media.crops import read_image

MARK = ".vaflow"  # a hidden file in a folder of crops: what they were made of
QUALITY = 95  # of JPEG, with colours at full resolution
EYES, NOSE, MOUTH = (slice(36, 42), slice(42, 48)), 30, (48, 54)
"""Among the 68 landmarks of iBUG (Sagonas et al., 2013), counted from 0, from left to right."""
N_LANDMARKS = 68
LEAST_PX = 1.0  # between the eyes, so that a scale can be told

Landmarks = Float32[np.ndarray, "5 2"]


@dataclass(frozen=True, slots=True)
class FaceCrops:
    """How the images of a clip are cut to their faces."""

    alignment: AlignmentConfig
    landmarks_px: Mapping[int, Landmarks]
    """Eyes, nose and corners of the mouth, by number of the frame; a frame without has no crop."""


def five_of_68(points: Float32[np.ndarray, "68 2"]) -> Landmarks | None:
    """Return eyes, nose and corners of the mouth of 68 landmarks; None if the eyes coincide."""
    eyes = [points[each].mean(axis=0) for each in EYES]
    if not np.isfinite(points).all() or np.linalg.norm(eyes[1] - eyes[0]) < LEAST_PX:
        return None
    return np.stack([*eyes, points[NOSE], points[MOUTH[0]], points[MOUTH[1]]]).astype(np.float32)


def write_images(folder: Path, images: Mapping[int, Path], crops: FaceCrops | None) -> None:
    """Link images into a folder by the names that crops have, or write their faces there.

    What vaflow put there before is replaced. Raises `InputError` if something else is in the way,
    or an image cannot be read.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if crops:
            _write_crops(folder, images, crops)
        else:
            _link(folder, images)
    except OSError as error:
        raise InputError(
            f"images cannot be {'written' if crops else 'linked'} into {folder} "
            f"({error.strerror}); remove what is in the way, or write the manifest to a file "
            "system that has room and links"
        ) from None


def _link(folder: Path, images: Mapping[int, Path]) -> None:
    if (folder / MARK).is_file():
        shutil.rmtree(folder)
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        if path.is_symlink():
            path.unlink()
    for number, image in images.items():
        target = os.path.relpath(image.resolve(), folder.resolve())
        (folder / f"{number:05d}.jpg").symlink_to(target)


def _write_crops(folder: Path, images: Mapping[int, Path], crops: FaceCrops) -> None:
    """Write the crops unless they are there; the folder appears when it is complete."""
    shown = {number: images[number] for number in crops.landmarks_px if number in images}
    stats = {number: path.stat() for number, path in shown.items()}
    mark = canonical_sha256(
        {
            "images": {str(k): [each.st_size, each.st_mtime_ns] for k, each in stats.items()},
            "landmarks_px": {str(k): crops.landmarks_px[k].tolist() for k in shown},
            "alignment": crops.alignment.as_spec(),
        }
    )
    if folder.exists():
        if (folder / MARK).is_file():
            if (folder / MARK).read_text() == mark:
                return
        elif any(not path.is_symlink() for path in folder.iterdir()):
            raise InputError(
                f"{folder} holds files that are not from vaflow; remove it, or give the manifest "
                "another name"
            )
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a killed run
    part.mkdir()
    try:
        for number, path in shown.items():
            try:
                image = read_image(path)
            except MediaError as error:
                raise InputError(str(error)) from None
            crop = crops.alignment.crop(image, crops.landmarks_px[number])
            file = part / f"{number:05d}.jpg"
            Image.fromarray(crop).save(file, quality=QUALITY, subsampling=0)
        (part / MARK).write_text(mark)
        if folder.exists():
            shutil.rmtree(folder)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
