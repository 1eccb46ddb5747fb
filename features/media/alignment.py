"""Alignment: a face is turned, scaled and shifted so that its landmarks lie at fixed places."""

from typing import Annotated

import numpy as np
from jaxtyping import Float32, Float64, UInt8
from PIL import Image
from pydantic import Field

from features.canonical_json import JsonObject
from features.config import Config

TEMPLATE_PX = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)
"""The landmarks in a crop of 112 x 112 (ArcFace, Deng et al. 2019, insightface)."""
TEMPLATE_SIDE_PX = 112
ROUNDING = 1e-6  # of a scale that is a whole number

Similarity = Float64[np.ndarray, "2 3"]


class AlignmentConfig(Config):
    """How a face is cut out of a frame."""

    side_px: Annotated[int, Field(ge=16, le=1024)] = 112
    """Width and height of a crop in pixels."""
    margin: Annotated[float, Field(ge=0, le=2)] = 0.0
    """How much more than the template is seen on each side, relative to the crop's side."""

    def as_spec(self) -> JsonObject:
        """What decides the crops."""
        return {**self.model_dump(mode="json"), "template": "arcface", "interpolation": "bilinear"}

    @property
    def template_px(self) -> Float64[np.ndarray, "5 2"]:
        """Where the landmarks lie in a crop."""
        template = np.array(TEMPLATE_PX) / TEMPLATE_SIDE_PX
        return (template + self.margin) / (1 + 2 * self.margin) * self.side_px

    def crop(
        self, image: UInt8[np.ndarray, "H W 3"], landmarks_px: Float32[np.ndarray, "5 2"]
    ) -> UInt8[np.ndarray, "S S 3"]:
        """The face with these landmarks; black where the crop reaches beyond the image.

        A face that is larger than the crop is first reduced by a whole number, so that nothing
        aliases.
        """
        points = landmarks_px.astype(np.float64)
        scale = 1 / float(np.linalg.norm(similarity(points, self.template_px)[:, 0]))
        left, top, right, bottom = self._source_box(image, points, scale)
        if left >= right or top >= bottom:
            return np.zeros((self.side_px, self.side_px, 3), np.uint8)
        source = Image.fromarray(np.ascontiguousarray(image[top:bottom, left:right]))
        factor = max(1, int(scale + ROUNDING))
        points = (points - (left, top) + 0.5) / factor - 0.5
        inverse = similarity(self.template_px, points)
        # PIL counts from the corner of a pixel, landmarks from its centre
        inverse[:, 2] += 0.5 - inverse[:, :2] @ (0.5, 0.5)
        cut = (source.reduce(factor) if factor > 1 else source).transform(
            (self.side_px, self.side_px),
            Image.Transform.AFFINE,
            tuple(inverse.ravel()),
            Image.Resampling.BILINEAR,
        )
        return np.array(cut)  # a copy, which may be written to

    def _source_box(
        self, image: np.ndarray, points: Float64[np.ndarray, "5 2"], scale: float
    ) -> tuple[int, int, int, int]:
        """The part of the image that the crop shows: left, top, right, bottom."""
        inverse = similarity(self.template_px, points)
        side = float(self.side_px)
        corners = np.array([[0, 0], [side, 0], [0, side], [side, side]])
        seen = corners @ inverse[:, :2].T + inverse[:, 2]
        around = 2 + scale  # for the interpolation at the border
        height, width, _ = image.shape
        left, top = np.clip(np.floor(seen.min(0) - around), 0, (width, height)).astype(int)
        right, bottom = np.clip(np.ceil(seen.max(0) + around), 0, (width, height)).astype(int)
        return int(left), int(top), int(right), int(bottom)


def similarity(
    source: Float64[np.ndarray, "N 2"], target: Float64[np.ndarray, "N 2"]
) -> Similarity:
    """The rotation, scale and shift (no mirror) that bring points closest to others.

    Least squares; a complex number times z plus another one maps (x, y) as x + iy. Points that all
    coincide are only shifted.
    """
    source_mean, target_mean = source.mean(0), target.mean(0)
    x, y = (source - source_mean).T
    u, v = (target - target_mean).T
    norm = (x**2 + y**2).sum()
    a, b = ((x * u + y * v).sum() / norm, (x * v - y * u).sum() / norm) if norm else (1.0, 0.0)
    linear = np.array([[a, -b], [b, a]])
    return np.column_stack([linear, target_mean - linear @ source_mean])
