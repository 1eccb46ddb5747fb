"""The identity of a subject: face, clothes and voice."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64

Rgb = tuple[int, int, int]
HairStyle = Literal["short", "long", "bald", "bun", "curly"]

SKINS: tuple[Rgb, ...] = (
    (244, 213, 190), (232, 190, 160), (222, 178, 142), (198, 146, 108), (166, 116, 82),
    (134, 90, 62), (98, 66, 48),
)  # fmt: skip
HAIRS: tuple[Rgb, ...] = (
    (28, 24, 24), (58, 40, 30), (96, 62, 38), (150, 104, 56), (196, 160, 100), (140, 62, 34),
    (150, 150, 152),
)  # fmt: skip
EYES: tuple[Rgb, ...] = (
    (70, 46, 30), (98, 66, 36), (60, 90, 60), (66, 104, 140), (100, 116, 122),
)  # fmt: skip
LIP_RED: Rgb = (178, 62, 72)
HAIR_STYLES: tuple[HairStyle, ...] = ("short", "long", "bald", "bun", "curly")


@dataclass(frozen=True, slots=True)
class Face:
    """How a subject looks; lengths are in half-heights of the head."""

    skin: Rgb
    hair: Rgb
    lips: Rgb
    iris: Rgb
    clothes: Rgb
    hair_style: HairStyle
    half_width: float
    jaw: float
    """0 pointed, 1 square."""
    eye_half_gap: float
    eye_half_width: float
    eye_height: float
    brow_thickness: float
    brow_y: float
    nose_length: float
    mouth_y: float
    mouth_half_width: float
    lip_thickness: float
    glasses: bool
    beard: float
    """0 none, 1 full."""
    hairline_y: float
    curls: Float64[np.ndarray, "12"]


@dataclass(frozen=True, slots=True)
class Voice:
    """How a subject sounds."""

    pitch_hz: float
    formant_scale: float
    """1 for a long vocal tract, more for a short one."""
    breath: float
    tempo_hz: float
    """Syllables per second at rest."""
    tilt_db: float
    """Fall of the harmonics per octave at rest."""
    gain_db: float
    """Gain of the microphone."""


def _pick(rng: np.random.Generator, colours: tuple[Rgb, ...], spread: float) -> Rgb:
    base = np.array(colours[rng.integers(len(colours))])
    return shade(tuple(base.tolist()), 1.0, rng.normal(0, spread, 3))


def shade(colour: Rgb, factor: float, offset: np.ndarray | float = 0.0) -> Rgb:
    """The colour darker (factor < 1) or lighter, clipped to 0..255."""
    r, g, b = np.clip(np.array(colour) * factor + offset, 0, 255).astype(int).tolist()
    return r, g, b


def blend(one: Rgb, other: Rgb, share: float) -> Rgb:
    """A mixture of two colours, with `share` of the other."""
    return shade(one, 1 - share, np.array(other) * share)


def draw_face_identity(rng: np.random.Generator) -> Face:
    """A random face."""
    skin = _pick(rng, SKINS, 5.0)
    hair = _pick(rng, HAIRS, 6.0)
    hue = rng.uniform(30, 210, 3)
    return Face(
        skin=skin,
        hair=hair,
        lips=blend(shade(skin, 0.86), LIP_RED, float(rng.uniform(0.25, 0.65))),
        iris=_pick(rng, EYES, 8.0),
        clothes=shade((0, 0, 0), 0.0, hue),
        hair_style=HAIR_STYLES[rng.choice(len(HAIR_STYLES), p=(0.36, 0.28, 0.08, 0.14, 0.14))],
        half_width=float(rng.uniform(0.68, 0.80)),
        jaw=float(rng.uniform(0.0, 1.0)),
        eye_half_gap=float(rng.uniform(0.30, 0.36)),
        eye_half_width=float(rng.uniform(0.135, 0.17)),
        eye_height=float(rng.uniform(0.072, 0.098)),
        brow_thickness=float(rng.uniform(0.03, 0.065)),
        brow_y=float(rng.uniform(-0.41, -0.34)),
        nose_length=float(rng.uniform(0.30, 0.40)),
        mouth_y=float(rng.uniform(0.50, 0.58)),
        mouth_half_width=float(rng.uniform(0.23, 0.30)),
        lip_thickness=float(rng.uniform(0.04, 0.075)),
        glasses=bool(rng.random() < 0.22),
        beard=float(rng.uniform(0.3, 1.0)) if rng.random() < 0.22 else 0.0,
        hairline_y=float(rng.uniform(-0.80, -0.62)),
        curls=rng.uniform(-1, 1, 12),
    )


def draw_voice_identity(rng: np.random.Generator) -> Voice:
    """A random voice; the higher its pitch, the shorter its vocal tract."""
    height = float(rng.beta(0.8, 0.8))
    return Voice(
        pitch_hz=100.0 * 2 ** (height + float(rng.normal(0, 0.12))),
        formant_scale=1.0 + 0.17 * height + float(rng.normal(0, 0.015)),
        breath=float(rng.uniform(0.02, 0.10)),
        tempo_hz=float(rng.uniform(3.8, 5.2)),
        tilt_db=float(rng.uniform(-8.5, -5.5)),
        gain_db=float(rng.normal(0, 2.0)),
    )
