"""Shapes on the front of a turned head, drawn on a canvas of twice the image size.

Lengths are in half-heights of the head; x points right, y down; the origin is between the eyes and
the tip of the nose. Features lie on an ellipsoid that is turned by yaw, pitch and roll.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from PIL import Image, ImageDraw

from features.synthetic.identity import Rgb

SUPERSAMPLE = 2
DEPTH = 0.55  # of the ellipsoid behind the features

Points = Float64[np.ndarray, "N 2"]


@dataclass(frozen=True, slots=True)
class Pose:
    """Position and rotation of a head in the image."""

    x_px: float
    y_px: float
    half_height_px: float
    yaw: float = 0.0
    """Radians, as pitch and roll; positive values turn right in the image, down, clockwise."""
    pitch: float = 0.0
    roll: float = 0.0
    gaze: float = 0.0
    """-1 looks left, 1 right."""


class FaceCanvas:
    """A supersampled canvas that takes shapes in the coordinates of one head."""

    def __init__(self, canvas: Image.Image, origin_px: tuple[float, float], pose: Pose) -> None:
        self._draw = ImageDraw.Draw(canvas)
        self._origin = np.array([pose.x_px - origin_px[0], pose.y_px - origin_px[1]])
        self._scale = pose.half_height_px * SUPERSAMPLE
        cos, sin = np.cos(pose.roll), np.sin(pose.roll)
        self._roll = np.array([[cos, sin], [-sin, cos]])
        self._pose = pose

    def place(self, points: Points, depth: float = DEPTH) -> Points:
        """Return the canvas pixels of points on the head. Depth 0 is the plane of the outline."""
        x, y = points[:, 0], points[:, 1]
        z = depth * np.sqrt(np.clip(1 - (x / 0.95) ** 2 - (y / 1.25) ** 2, 0.02, 1))
        turned = np.stack(
            [
                x * np.cos(self._pose.yaw) + z * np.sin(self._pose.yaw),
                y * np.cos(self._pose.pitch) + z * np.sin(self._pose.pitch),
            ],
            axis=1,
        )
        return turned @ self._roll * self._scale + self._origin * SUPERSAMPLE

    def fill(self, points: Points, colour: Rgb, depth: float = DEPTH) -> None:
        """Fill a polygon."""
        self._draw.polygon(self.place(points, depth).ravel().tolist(), fill=colour)

    def line(self, points: Points, colour: Rgb, width: float, depth: float = DEPTH) -> None:
        """Draw a line of the given width."""
        width_px = max(1, round(width * self._scale))
        flat = self.place(points, depth).ravel().tolist()
        self._draw.line(flat, fill=colour, width=width_px, joint="curve")

    def disc(self, x: float, y: float, radius: float, colour: Rgb, depth: float = DEPTH) -> None:
        """Fill a circle that stays round."""
        cx, cy = self.place(np.array([[x, y]]), depth)[0]
        r = radius * self._scale
        self._draw.ellipse((cx - r, cy - r, cx + r, cy + r), fill=colour)


def arc(
    start: tuple[float, float], middle: tuple[float, float], end: tuple[float, float]
) -> Points:
    """Return twelve points on the parabola through three points."""
    t = np.linspace(0, 1, 12)[:, None]
    p0, p1, p2 = (np.array(p) for p in (start, middle, end))
    bend = 2 * p1 - (p0 + p2) / 2
    return (1 - t) ** 2 * p0 + 2 * t * (1 - t) * bend + t**2 * p2


def bow(half_width: float, ends_y: float, middle_y: float) -> Points:
    """Return the points of an arc that is symmetric about the middle of the face."""
    return arc((-half_width, ends_y), (0.0, middle_y), (half_width, ends_y))


def ring(x: float, y: float, rx: float, ry: float, n: int = 28) -> Points:
    """Return `n` points on an ellipse."""
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1)
