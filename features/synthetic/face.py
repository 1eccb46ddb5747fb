"""Draws a talking face with an identity, an expression and a pose.

Lengths and axes are as in drawing.py.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image

from features.synthetic.drawing import SUPERSAMPLE, FaceCanvas, Pose, arc, bow, ring
from features.synthetic.expression import FACE_CUES
from features.synthetic.head import (
    DARK,
    draw_beard,
    draw_body,
    draw_far_side,
    draw_glasses,
    draw_hair_before,
    draw_hair_behind,
    draw_head,
    outline,
)
from features.synthetic.identity import Face, Rgb, blend, shade

CROP_PX = 112  # side of a crop, as in Aff-Wild2
CROP_HALF = 1.12  # half the side of a face box, in half-heights of the head
WHITE: Rgb = (238, 236, 232)
MOUTH: Rgb = (78, 22, 28)
TONGUE: Rgb = (178, 84, 90)


@dataclass(frozen=True, slots=True)
class Look:
    """The expression of a face at one instant."""

    cues: Float64[np.ndarray, "F"]
    """In standard deviations, as `FACE_CUES`."""
    speech: float = 0.0
    """Opening of the mouth by speech, 0 to 1."""
    open_share: float = 1.0
    """Opening of the lids, relative to that without blinking."""
    hand: float = 0.0
    """Height of a hand before the face: 0 none, 1 fully up."""
    hand_x: float = 0.0
    turned: float = 0.0
    """0 faces the camera; -1 and 1 are turned away to the left and right of the image."""


def jaw_opening(look: Look) -> float:
    """The opening of the mouth by expression and speech, 0 to 1."""
    at_rest = max(0.0, 0.10 + 0.10 * float(look.cues[FACE_CUES.index("mouth_open")]))
    return min(at_rest + 0.55 * look.speech, 1.0)


def draw_person(canvas: Image.Image, origin_px: tuple[float, float], face: Face, pose: Pose,
                look: Look) -> None:  # fmt: skip
    """Draw one person into a canvas of twice the image size whose corner is at `origin_px`."""
    pen = FaceCanvas(canvas, origin_px, pose)
    cue = dict(zip(FACE_CUES, look.cues.tolist(), strict=True))
    jaw_open = jaw_opening(look)
    draw_body(pen, face)
    draw_hair_behind(pen, face)
    draw_head(pen, face, jaw_open)
    _draw_folds(pen, face, cue)
    draw_beard(pen, face, jaw_open)
    for side in (-1, 1):
        _draw_eye(pen, face, pose, side, cue, look.open_share)
        _draw_brow(pen, face, side, cue)
    _draw_nose(pen, face)
    _draw_mouth(pen, face, cue, jaw_open)
    draw_hair_before(pen, face)
    draw_glasses(pen, face)
    if look.turned:
        draw_far_side(pen, face, look.turned)
    if look.hand > 0:
        _draw_hand(pen, face, look)


def _draw_folds(pen: FaceCanvas, face: Face, cue: dict[str, float]) -> None:
    for side in (-1, 1):
        fold = np.clip(0.25 + 0.3 * cue["smile"] + 0.2 * cue["cheeks"], 0, 1)
        line = shade(face.skin, 1 - 0.22 * float(fold))
        pen.line(arc((side * 0.17, 0.26), (side * 0.31, 0.36), (side * 0.37, 0.53)), line, 0.03)
        bag = float(np.clip(0.15 + 0.35 * cue["cheeks"], 0, 1))
        raise_y = -0.035 * float(np.clip(cue["cheeks"], -1, 2))
        y = face.eye_height + 0.02 + raise_y
        x = face.eye_half_gap
        under = arc((side * (x - 0.13), y), (side * x, y + 0.055), (side * (x + 0.17), y - 0.02))
        pen.line(under, shade(face.skin, 1 - 0.2 * bag), 0.028)
    furrow = float(np.clip(0.45 * cue["frown"], 0, 1))
    if furrow > 0.1:
        for x in (-0.05, 0.05):
            points = np.array([[x, -0.44], [x * 0.8, -0.30]])
            pen.line(points, shade(face.skin, 1 - 0.25 * furrow), 0.022)
    lifted = float(np.clip(0.45 * cue["brow_raise"], 0, 1))
    if lifted > 0.15:
        for y in (-0.60, -0.68):
            curve = bow(0.33, y + 0.02, y - 0.02)
            pen.line(curve, shade(face.skin, 1 - 0.16 * lifted), 0.02)


def _draw_eye(
    pen: FaceCanvas, face: Face, pose: Pose, side: int, cue: dict[str, float], open_share: float
) -> None:
    """Draw one eye; side -1 is the left of the image."""
    x, w = side * face.eye_half_gap, face.eye_half_width
    wide = float(np.exp(0.34 * cue["lids"]))
    upper = face.eye_height * wide * open_share
    lower = max(0.0, face.eye_height * (0.62 - 0.16 * cue["cheeks"])) * open_share
    left, right = (x - w, 0.0), (x + w, -0.01)
    top, bottom = arc(left, (x, -upper), right), arc(left, (x, lower), right)
    pen.fill(ring(x, -0.03, w * 1.25, face.eye_height * 1.7), shade(face.skin, 0.92))
    pen.fill(np.concatenate([top, bottom[::-1]]), WHITE)
    iris_x = x + 0.05 * pose.gaze
    pen.disc(iris_x, -0.01, 0.082, shade(face.iris, 0.6))
    pen.disc(iris_x, -0.01, 0.070, face.iris)
    pen.disc(iris_x, -0.01, 0.036, DARK)
    pen.disc(iris_x + 0.025, -0.035, 0.018, (250, 250, 250))
    lid = shade(face.skin, 0.90)
    above = arc(right, (x, -face.eye_height * 1.9 - 0.03), left)
    pen.fill(np.concatenate([top, above]), lid)
    below = arc(right, (x, face.eye_height * 1.5), left)
    pen.fill(np.concatenate([bottom, below]), blend(face.skin, lid, 0.4))
    pen.line(top, DARK, 0.030)
    pen.line(bottom, shade(face.skin, 0.66), 0.014)


def _draw_brow(pen: FaceCanvas, face: Face, side: int, cue: dict[str, float]) -> None:
    y = face.brow_y - 0.060 * cue["brow_raise"]
    inner = (side * (0.15 - 0.015 * cue["frown"]), y + 0.03 + 0.075 * cue["frown"])
    middle = (side * 0.34, y - 0.05 - 0.01 * cue["frown"])
    outer = (side * 0.53, y + 0.04 - 0.02 * cue["frown"])
    spine = arc(inner, middle, outer)
    half = face.brow_thickness * np.linspace(1.0, 0.35, 12)[:, None] * np.array([[0.0, 1.0]])
    colour = blend(face.hair, face.skin, 0.12)
    pen.fill(np.concatenate([spine - half, (spine + half)[::-1]]), colour)


def _draw_nose(pen: FaceCanvas, face: Face) -> None:
    y = face.nose_length
    pen.fill(np.array([[-0.05, -0.08], [-0.12, y], [-0.02, y - 0.02]]), shade(face.skin, 0.93))
    pen.fill(ring(0.0, y - 0.03, 0.085, 0.06), blend(face.skin, (255, 240, 226), 0.2))
    pen.line(bow(0.13, y - 0.02, y + 0.055), shade(face.skin, 0.86), 0.03)
    for side in (-1, 1):
        pen.fill(ring(side * 0.06, y + 0.015, 0.032, 0.018, 10), shade(face.skin, 0.5))


def _draw_mouth(pen: FaceCanvas, face: Face, cue: dict[str, float], jaw_open: float) -> None:
    half = face.mouth_half_width * (1 + 0.13 * cue["mouth_width"]) * (1 - 0.14 * jaw_open)
    curl = 0.068 * cue["smile"]
    y = face.mouth_y
    gap = 0.34 * jaw_open
    upper_y, lower_y = y + 0.35 * curl - 0.25 * gap, y + 0.35 * curl + 0.75 * gap
    thick = face.lip_thickness
    upper, lower = bow(half, y - curl, upper_y), bow(half, y - curl, lower_y)
    outer_upper = bow(half * 1.06, y - curl, upper_y - thick)
    outer_lower = bow(half * 1.06, y - curl, lower_y + 1.2 * thick)
    pen.fill(np.concatenate([outer_upper, lower[::-1]]), shade(face.lips, 0.9))
    pen.fill(np.concatenate([upper, outer_lower[::-1]]), face.lips)
    pen.fill(np.concatenate([upper, lower[::-1]]), MOUTH)
    if gap > 0.05:
        teeth_y = upper_y + min(0.075, 0.5 * gap)
        inner = bow(half * 0.8, y - 0.72 * curl, upper_y)
        edge = bow(half * 0.8, y - 0.68 * curl, teeth_y)
        pen.fill(np.concatenate([inner, edge[::-1]]), WHITE)
    if gap > 0.12:
        tongue = bow(half * 0.5, lower_y - 0.03, lower_y - 0.45 * gap)
        floor = bow(half * 0.5, lower_y - 0.03, lower_y - 0.01)
        pen.fill(np.concatenate([tongue, floor[::-1]]), TONGUE)
    pen.line(upper, shade(face.lips, 0.55), 0.016)
    shine = bow(half * 0.35, lower_y + 0.5 * thick, lower_y + 0.6 * thick)
    pen.line(shine, blend(face.lips, (255, 255, 255), 0.22), 0.018)


def _draw_hand(pen: FaceCanvas, face: Face, look: Look) -> None:
    x, y = look.hand_x, 1.6 - 1.05 * look.hand
    skin, edge = shade(face.skin, 0.94), shade(face.skin, 0.70)
    for finger in range(4):
        fx = x + 0.17 * (finger - 1.5)
        top = y - 0.42 - 0.06 * (finger in (1, 2))
        points = np.array([[fx, y + 0.1], [fx, top]])
        pen.line(points, edge, 0.175, 0.0)
        pen.line(points, skin, 0.15, 0.0)
        pen.disc(fx, top, 0.075, skin, 0.0)
    pen.fill(ring(x, y + 0.25, 0.37, 0.34), edge, 0.0)
    pen.fill(ring(x, y + 0.25, 0.355, 0.325), skin, 0.0)
    wrist = np.array(
        [[x - 0.27, y + 0.4], [x + 0.27, y + 0.4], [x + 0.30, y + 2.0], [x - 0.30, y + 2.0]]
    )
    pen.fill(wrist, skin, 0.0)


def crop_box(
    pose: Pose, jitter: Float64[np.ndarray, "3"] | None = None
) -> tuple[float, float, float, float]:
    """The face box (left, top, right, bottom) in pixels; jitter imitates that of a detector."""
    dx, dy, grow = (0.0, 0.0, 0.0) if jitter is None else jitter.tolist()
    half = pose.half_height_px * CROP_HALF * (1 + grow)
    x, y = pose.x_px + dx * pose.half_height_px, pose.y_px + dy * pose.half_height_px
    return x - half, y - half, x + half, y + half


def draw_single(
    face: Face, look: Look, pose_turn: tuple[float, float, float], background: Rgb,
    jitter: Float64[np.ndarray, "3"] | None = None,
) -> UInt8[np.ndarray, "H W 3"]:  # fmt: skip
    """Return a crop of 112 x 112 pixels, on a plain background; `pose_turn` is yaw, pitch, roll."""
    side_px = CROP_PX * 3 // 2
    half_px = CROP_PX / 2 / CROP_HALF
    yaw, pitch, roll = pose_turn
    pose = Pose(side_px / 2, side_px / 2, half_px, yaw, pitch, roll)
    canvas = Image.new("RGB", (side_px * SUPERSAMPLE, side_px * SUPERSAMPLE), background)
    draw_person(canvas, (0.0, 0.0), face, pose, look)
    left, top, right, bottom = (SUPERSAMPLE * edge for edge in crop_box(pose, jitter))
    box = (left, top, right, bottom)
    return np.asarray(canvas.resize((CROP_PX, CROP_PX), Image.Resampling.BOX, box=box))


def true_landmarks(face: Face, pose: Pose, look: Look) -> Float64[np.ndarray, "5 2"]:
    """Where the eyes, the tip of the nose and the corners of the mouth are drawn, in pixels.

    Left before right in the image; pixel (0, 0) is at the origin.
    """
    smile = float(look.cues[FACE_CUES.index("smile")])
    wide = float(look.cues[FACE_CUES.index("mouth_width")])
    half = face.mouth_half_width * (1 + 0.13 * wide) * (1 - 0.14 * jaw_opening(look))
    mouth_y = face.mouth_y - 0.068 * smile
    points = np.array(
        [
            [-face.eye_half_gap, 0.0],
            [face.eye_half_gap, 0.0],
            [0.0, face.nose_length],
            [-half, mouth_y],
            [half, mouth_y],
        ]
    )
    pen = FaceCanvas(Image.new("RGB", (1, 1)), (0.0, 0.0), pose)
    return pen.place(points) / SUPERSAMPLE - 0.5


def true_box(face: Face, pose: Pose, look: Look) -> tuple[float, float, float, float]:
    """The box of the drawn face, from hairline to chin: left, top, width, height in pixels."""
    drawn = outline(face, 0.10 * jaw_opening(look))
    drawn = drawn[drawn[:, 1] >= face.hairline_y]
    placed = FaceCanvas(Image.new("RGB", (1, 1)), (0.0, 0.0), pose).place(drawn) / SUPERSAMPLE - 0.5
    (left, top), (right, bottom) = placed.min(0).tolist(), placed.max(0).tolist()
    return left, top, right - left, bottom - top
