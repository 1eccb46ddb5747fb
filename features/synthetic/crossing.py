"""A room in which drawn people walk past each other, the nearer one before the other."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, UInt8

from features.synthetic.drawing import SUPERSAMPLE, Pose
from features.synthetic.expression import FACE_CUES
from features.synthetic.face import Look, draw_person, true_box
from features.synthetic.identity import Face, draw_face_identity
from features.synthetic.scene import draw_scene

RATE_HZ = 25.0
SECONDS_TO_CROSS = (2.0, 5.0)
HALF_HEIGHTS = (0.17, 0.26)  # of a head, relative to the height of the image
BOB = 0.04  # half the rise and fall of a head that walks, in half-heights
STRIDES_HZ = (1.5, 2.2)
FACING = 0.25  # radians that a head is turned to where it walks
COVERED_SHARE = 0.5  # of a face's box by that of a nearer face, from which it is not visible


@dataclass(frozen=True, slots=True)
class Walker:
    """Somebody who walks from one side of the image to the other and back."""

    face: Face
    half_height_px: float
    middle_px: float
    reach_px: float
    y_px: float
    phase: float
    """In radians of a walk there and back."""
    crossing_s: float
    stride_hz: float

    def pose(self, time_s: float) -> Pose:
        """Where the head is at a time."""
        angle = np.pi * time_s / self.crossing_s + self.phase
        bob = BOB * self.half_height_px * np.sin(2 * np.pi * self.stride_hz * time_s)
        return Pose(
            self.middle_px + self.reach_px * float(np.sin(angle)),
            self.y_px + float(bob),
            self.half_height_px,
            yaw=FACING * float(np.cos(angle)),
        )


@dataclass(frozen=True, slots=True)
class CrossingFrame:
    """A frame, and where each of P people is in it."""

    image: UInt8[np.ndarray, "H W 3"]
    boxes_px: Float64[np.ndarray, "P 4"]
    visible: Bool[np.ndarray, "P"]
    """Whether at least half of the face is not behind a nearer one."""


def draw_crossing(
    seed: int, n_people: int, seconds: float, size_px: tuple[int, int] = (480, 270)
) -> Iterator[CrossingFrame]:
    """Yield frames of people who walk to and fro, each at a pace and distance of their own."""
    rng = np.random.default_rng(seed)
    width, height = size_px
    scene = draw_scene(rng, size_px, n_people, seconds)
    walkers = [
        Walker(
            draw_face_identity(rng),
            half_height_px=float(rng.uniform(*HALF_HEIGHTS)) * height,
            middle_px=width / 2,
            reach_px=width * float(rng.uniform(0.28, 0.36)),
            y_px=height * float(rng.uniform(0.42, 0.5)),
            phase=np.pi * (2 * person + 1) / n_people - np.pi / 2,  # begin apart
            crossing_s=float(rng.uniform(*SECONDS_TO_CROSS)),
            stride_hz=float(rng.uniform(*STRIDES_HZ)),
        )
        for person in range(n_people)
    ]
    look = Look(np.zeros(len(FACE_CUES)))
    far_to_near = np.argsort([walker.half_height_px for walker in walkers]).tolist()
    for frame in range(round(seconds * RATE_HZ)):
        time_s = frame / RATE_HZ
        poses = [walker.pose(time_s) for walker in walkers]
        canvas = scene.backdrop.copy()
        for person in far_to_near:
            draw_person(canvas, (0.0, 0.0), walkers[person].face, poses[person], look)
        boxes = np.array(
            [true_box(each.face, pose, look) for each, pose in zip(walkers, poses, strict=True)]
        )
        visible = np.array(
            [
                all(
                    _covered(boxes[person], boxes[nearer]) < COVERED_SHARE
                    for nearer in far_to_near[far_to_near.index(person) + 1 :]
                )
                for person in range(n_people)
            ]
        )
        image = scene.photograph(rng, time_s, canvas.reduce(SUPERSAMPLE))
        yield CrossingFrame(image, boxes, visible)


def _covered(box: Float64[np.ndarray, "4"], by: Float64[np.ndarray, "4"]) -> float:
    """The share of a box that another one covers."""
    low, high = np.maximum(box[:2], by[:2]), np.minimum(box[:2] + box[2:], by[:2] + by[2:])
    return float(np.clip(high - low, 0, None).prod() / box[2:].prod())
