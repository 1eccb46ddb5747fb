"""Frames as a player shows them: upright, and with square pixels."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
from jaxtyping import UInt8

from features.errors import MediaError
from features.media.limits import DecodeLimits, check_pixels

Image = UInt8[np.ndarray, "_ _ 3"]


@dataclass(frozen=True, slots=True)
class Orientation:
    """Quarter turns and mirrors: transpose first, then flip."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    def apply(self, image: Image) -> Image:
        """The image as it is shown; without a copy."""
        if self.transpose:
            image = image.swapaxes(0, 1)
        return image[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]


def orientation(frame: av.VideoFrame) -> Orientation:
    """How a frame is turned and mirrored by its display matrix, to the nearest quarter turn.

    `frame.rotation` gives only the angle, and a mirror as a turn by 180 degrees. The matrix maps
    (x, y) of the stored frame to (a x + c y, b x + d y) (ISO/IEC 14496-12, 6.2.2). Reading it keeps
    the frame in memory until Python collects cycles: read it where it may differ, not per frame.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return Orientation()
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].astype(np.int64)
    if abs(a * d) >= abs(b * c):
        return Orientation(False, bool(a < 0), bool(d < 0))
    return Orientation(True, bool(c < 0), bool(b < 0))


def square_size(width: int, height: int, pixel_aspect: Fraction | None) -> tuple[int, int]:
    """Width and height in square pixels; the longer side of a pixel is resampled, nothing is lost.

    `pixel_aspect` is the width of a stored pixel over its height; None or 0 is unknown, and 1.
    """
    if not pixel_aspect or pixel_aspect == 1:
        return width, height
    if pixel_aspect > 1:
        return round(width * pixel_aspect), height
    return width, round(height / pixel_aspect)


class FrameConverter:
    """Converts the frames of one video to RGB as a player shows them."""

    def __init__(self, path: Path, pixel_aspect: Fraction | None, limits: DecodeLimits) -> None:
        self._path, self._pixel_aspect, self._limits = path, pixel_aspect, limits
        self._rotation: int | None = None
        self._orientation = Orientation()

    def image(self, frame: av.VideoFrame) -> Image:
        """A decoded frame as RGB, upright and with square pixels.

        Raises `MediaError` if its pixel format cannot be converted, or if it is too large.
        """
        if frame.rotation != self._rotation:
            self._rotation, self._orientation = frame.rotation, orientation(frame)
        width, height = square_size(frame.width, frame.height, self._pixel_aspect)
        check_pixels(self._path, width, height, self._limits)
        try:
            if (width, height) != (frame.width, frame.height):
                frame = frame.reformat(width, height, "rgb24", interpolation="BICUBIC", threads=1)
            image = frame.to_ndarray(format="rgb24", threads=1)  # pyright: ignore[reportCallIssue]
        except (av.error.FFmpegError, ValueError) as error:
            if isinstance(error, MemoryError):
                raise  # the process is out of memory: not an error of the file
            name = frame.format.name
            raise MediaError(f"a frame of format {name} has no RGB ({error})", "damaged") from None
        return self._orientation.apply(image)
