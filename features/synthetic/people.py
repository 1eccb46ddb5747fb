"""A picture of drawn people whose places are given."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from features.synthetic.drawing import SUPERSAMPLE, Pose
from features.synthetic.expression import FACE_CUES
from features.synthetic.face import Look, draw_person
from features.synthetic.identity import draw_face_identity

GREY = (120, 130, 140)
TWO_PEOPLE = (
    Pose(70.0, 95.0, 50.0, yaw=0.2, roll=0.1),
    Pose(185.0, 80.0, 35.0, pitch=0.1),
)


def draw_people(
    poses: Sequence[Pose] = TWO_PEOPLE,
    size_px: tuple[int, int] = (250, 190),
    seeds: Sequence[int] = (5, 6),
) -> UInt8[np.ndarray, "H W 3"]:
    """People with neutral faces on a grey wall, each drawn from their own seed."""
    width, height = size_px
    canvas = Image.new("RGB", (width * SUPERSAMPLE, height * SUPERSAMPLE), GREY)
    look = Look(np.zeros(len(FACE_CUES)))
    for pose, seed in zip(poses, seeds, strict=False):
        face = draw_face_identity(np.random.default_rng(seed))
        draw_person(canvas, (0.0, 0.0), face, pose, look)
    return np.asarray(canvas.reduce(SUPERSAMPLE))
