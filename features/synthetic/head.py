"""The parts of a drawn head that do not move: body, hair, skin, beard, glasses."""

import numpy as np

from features.synthetic.drawing import FaceCanvas, Points, arc, bow, ring
from features.synthetic.identity import Face, Rgb, blend, shade

DARK: Rgb = (24, 18, 20)


def outline(face: Face, drop: float) -> Points:
    """Return the outline of head and jaw; `drop` lowers the chin."""
    angle = np.linspace(0.0, 2 * np.pi, 44, endpoint=False)
    x, y = np.cos(angle), np.sin(angle)
    power = 0.92 - 0.22 * face.jaw * (y > 0)
    x = np.sign(x) * np.abs(x) ** power * face.half_width
    x = x * np.where(y > 0.2, 1 - (0.20 - 0.10 * face.jaw) * (y - 0.2), 1)
    return np.stack([x, np.where(y > 0, y * (1 + drop), y * 0.98)], axis=1)


def draw_body(pen: FaceCanvas, face: Face) -> None:
    """Draw neck, shoulders and collar."""
    neck = np.array([[-0.34, 0.5], [0.34, 0.5], [0.37, 1.24], [-0.37, 1.24]])
    shoulders = np.concatenate(
        [arc((-1.7, 2.6), (-1.2, 1.42), (-0.34, 1.22)), arc((0.34, 1.22), (1.2, 1.42), (1.7, 2.6))]
    )
    pen.fill(shoulders, face.clothes, 0.0)
    pen.fill(neck, shade(face.skin, 0.80), 0.0)
    pen.fill(bow(0.40, 1.2, 1.62), shade(face.skin, 0.86), 0.0)
    pen.line(bow(0.42, 1.18, 1.64), shade(face.clothes, 0.7), 0.05, 0.0)


def draw_hair_behind(pen: FaceCanvas, face: Face) -> None:
    """Draw the hair behind the head."""
    w = face.half_width
    if face.hair_style == "long":
        locks = np.concatenate([bow(w + 0.12, 1.25, -1.2), np.array([[w - 0.2, 1.35]])])
        sides = arc((-w - 0.16, 1.2), (-w - 0.2, -0.2), (0.0, -1.16))
        other = sides[::-1] * np.array([-1, 1])
        pen.fill(np.concatenate([sides, other]), shade(face.hair, 0.85), 0.0)
        pen.fill(locks, shade(face.hair, 0.85), 0.0)
    elif face.hair_style == "bun":
        pen.fill(ring(0.05, -1.16, 0.30, 0.26), shade(face.hair, 0.9), 0.0)
    elif face.hair_style == "curly":
        for i, wobble in enumerate(face.curls):
            angle = np.pi * (1.02 + 0.96 * i / 11)
            x, y = (w + 0.06) * np.cos(angle), 0.98 * np.sin(angle) - 0.05
            pen.disc(float(x), float(y), 0.22 + 0.03 * float(wobble), face.hair, 0.0)


def draw_head(pen: FaceCanvas, face: Face, jaw_open: float) -> None:
    """Draw ears, head, shading and cheeks."""
    for side in (-1, 1):
        ear = ring(side * (face.half_width + 0.02), 0.02, 0.09, 0.18)
        pen.fill(ear, shade(face.skin, 0.9), 0.0)
    head = outline(face, 0.10 * jaw_open)
    pen.fill(head, shade(face.skin, 0.88), 0.0)
    pen.fill(head * np.array([0.93, 0.95]), face.skin, 0.1)
    lit = blend(face.skin, (255, 246, 236), 0.18)
    pen.fill(ring(0.0, -0.56, 0.40, 0.20), blend(face.skin, lit, 0.5))
    for side in (-1, 1):
        flush = blend(face.skin, (214, 96, 88), 0.10)
        pen.fill(ring(side * 0.43, 0.26, 0.17, 0.13), flush)


def draw_beard(pen: FaceCanvas, face: Face, jaw_open: float) -> None:
    """Draw the beard, if the subject has one."""
    if not face.beard:
        return
    colour = blend(face.skin, face.hair, 0.25 + 0.6 * face.beard)
    jaw = outline(face, 0.10 * jaw_open)
    low = jaw[jaw[:, 1] > 0.22]
    order = np.argsort(np.arctan2(low[:, 1], low[:, 0]))
    inside = bow(0.5 * face.half_width, 0.36, 0.42)
    pen.fill(np.concatenate([low[order], inside]), colour, 0.15)


def draw_hair_before(pen: FaceCanvas, face: Face) -> None:
    """Draw the hair around the forehead."""
    if face.hair_style == "bald":
        return
    w, line_y = face.half_width, face.hairline_y
    sideburn = 0.05 if face.hair_style in ("long", "curly") else -0.18
    parting = 0.22 * float(face.curls[0])
    crown = np.concatenate(
        [
            arc((-w - 0.05, sideburn), (-w - 0.03, -0.72), (0.0, -1.10)),
            arc((0.0, -1.10), (w + 0.03, -0.72), (w + 0.05, sideburn)),
            np.array([[w - 0.06, sideburn]]),
            arc((w - 0.08, -0.30), ((w + parting) / 2, line_y + 0.03), (parting, line_y - 0.06)),
            arc((parting, line_y - 0.06), ((parting - w) / 2, line_y + 0.03), (-w + 0.08, -0.30)),
            np.array([[-w + 0.06, sideburn]]),
        ]
    )
    pen.fill(crown, face.hair, 0.05)
    gloss = arc((-0.45, -0.86), (-0.1, -1.0), (0.3, -0.94))
    pen.line(gloss, blend(face.hair, (255, 255, 255), 0.16), 0.05, 0.05)


def draw_glasses(pen: FaceCanvas, face: Face) -> None:
    """Draw glasses, if the subject wears them."""
    if not face.glasses:
        return
    for side in (-1, 1):
        rim = ring(side * face.eye_half_gap, 0.0, 0.235, 0.175)
        pen.line(np.concatenate([rim, rim[:2]]), DARK, 0.024)
        inner_x, outer_x = side * (face.eye_half_gap + 0.23), side * face.half_width
        pen.line(np.array([[inner_x, -0.03], [outer_x, -0.06]]), DARK, 0.024, 0.3)
    pen.line(arc((-0.11, -0.02), (0.0, -0.05), (0.11, -0.02)), DARK, 0.024)


def draw_far_side(pen: FaceCanvas, face: Face, turned: float) -> None:
    """Draw the side and back of a head that turns away, over the far part of the face."""
    edge = face.half_width * (2 * abs(turned) - 1)
    toward = 1 if turned > 0 else -1
    covered = outline(face, 0.10)
    covered[:, 0] = toward * np.minimum(toward * covered[:, 0], edge)
    pen.fill(covered, shade(face.skin, 0.80), 0.0)
    if face.hair_style != "bald":
        pen.fill(covered * np.array([1.0, 0.62]) - np.array([0.0, 0.36]), face.hair, 0.0)
    pen.fill(ring(toward * (edge - 0.18), 0.05, 0.10, 0.19), shade(face.skin, 0.9), 0.0)
