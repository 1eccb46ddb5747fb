"""Face crops: a folder of images, each named after the number of its video frame."""

import re
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from features.errors import MediaError
from features.media.limits import DEFAULT_LIMITS, DecodeLimits, check_bytes, check_pixels

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")  # all occur with the suffix .jpg
SYSTEM_FILES = ("thumbs.db", "ehthumbs.db", "desktop.ini")  # of file browsers; others are hidden
ORIENTATION_TAG = 0x0112  # EXIF
CROP_NAME = re.compile(r"(\d{5,})\.jpg", re.IGNORECASE)


def is_system_file(name: str) -> bool:
    """Whether a file has its name from an operating system or a file browser: it is no medium."""
    return name.startswith(".") or name.lower() in SYSTEM_FILES


def crop_files(folder: Path) -> dict[int, Path]:
    """Face crops by frame number, from 1; `MediaError` if a name is not of the form 00001.jpg."""
    if not folder.is_dir():
        raise MediaError(f"{folder}: there is no such folder of crops; correct `frames`", "missing")
    crops: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        if is_system_file(path.name) or path.is_dir():
            continue
        match = CROP_NAME.fullmatch(path.name)
        number = int(match[1]) if match else 0
        if number < 1:
            raise MediaError(
                f"{path}: crops are named 00001.jpg, 00002.jpg, ... after their frame, "
                "counted from 1; rename or remove it (where all are counted from 0, add 1 to each)",
                "crops",
            )
        if number in crops:
            raise MediaError(
                f"{path} and {crops[number].name} are of one frame; remove one", "crops"
            )
        crops[number] = path
    return crops


def is_8_bit(image: Image.Image) -> bool:
    """Whether the samples of an image file have at most 8 bits."""
    return not image.mode.startswith(("I", "F"))


def read_image(path: Path, limits: DecodeLimits = DEFAULT_LIMITS) -> UInt8[np.ndarray, "H W 3"]:
    """An image file as RGB, upright; of 16 bits the upper 8 are kept.

    Raises `MediaError` if it is damaged, exceeds the limits, or has a depth without a known range.
    """
    try:
        check_bytes(path, path.stat().st_size, limits)
        with Image.open(path, formats=FORMATS) as image:
            check_pixels(path, image.width, image.height, limits)
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I;16"):
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            if not is_8_bit(upright):
                raise MediaError(
                    f"{path} has samples of 32 bits (mode {upright.mode}), whose range is not "
                    "known; convert it to 8 bits",
                    "damaged",
                )
            return np.asarray(upright.convert("RGB"))
    except Image.DecompressionBombError as error:  # above Pillow's own limit
        raise MediaError(f"{path} is no crop ({error}); remove it", "limit-pixels") from None
    except FileNotFoundError:
        raise MediaError(f"{path}: there is no such file; correct the crops", "missing") from None
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise MediaError(
            f"{path} is not a complete image ({error}); replace or remove it", "damaged"
        ) from None
