"""Training data of the small encoders: drawn faces, and voices with tags.

It is drawn from `ENCODER_BRANCH` in chunks, each with its own subjects, so that processes can draw
chunks in parallel and whole chunks can be used for evaluation.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial

import numpy as np
from jaxtyping import Float32, Float64, Int8, UInt8
from PIL import Image

from features.synthetic.background_sound import background_audio
from features.synthetic.captions import part_levels, tag_scores
from features.synthetic.expression import (
    CUE_LIMIT,
    DEFAULT_DIFFICULTY,
    FACE_WEIGHTS,
    draw_temper,
    voice_cues,
)
from features.synthetic.face import Look, draw_single, jaw_opening
from features.synthetic.identity import Face, draw_face_identity, draw_voice_identity, shade
from features.synthetic.random_streams import ENCODER_BRANCH, stream
from features.synthetic.trajectory import GRID_HZ, draw_trajectory
from features.synthetic.voice import SYNTH_HZ, plan_speech, synthesise

FACES, AUDIO = 0, 1  # second spawn key
SUBJECTS_PER_CHUNK, FACES_PER_SUBJECT = 50, 8
VOICES_PER_CHUNK, WINDOWS_PER_VOICE = 24, 3
FELT_SD = 1.15  # more than 1, so that rare feelings are learned, too
CUE_NOISE_SD = 0.75  # of each cue, so that the parts of a face vary independently
BLINK_SHARE, HAND_SHARE = 0.06, 0.04  # of pictures
TURN_SDS = np.array([0.16, 0.09, 0.08])  # of yaw, pitch and roll, radians
TAG_SHARPNESS = 2.5  # slope of a tag's log odds with its score
STEP_SPAN_S = 0.5  # duration of the sound around a step that its tags describe


@dataclass(frozen=True, slots=True)
class DrawnFaces:
    """Faces, and the attributes that they have."""

    pixels: UInt8[np.ndarray, "N H W 3"]
    levels: Int8[np.ndarray, "N P"]
    """The level of each part, from which captions are written."""
    felt_va: Float32[np.ndarray, "N 2"]
    """V and A in standard deviations: for the evaluation only, never for training."""


def face_chunk(seed: int, chunk: int, side_px: int) -> DrawnFaces:
    """The faces of one chunk, each resized to `side_px` as in CLIP's preprocessing."""
    rng = stream(seed, ENCODER_BRANCH, FACES, chunk)
    rows: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for _ in range(SUBJECTS_PER_CHUNK):
        face = draw_face_identity(rng)
        rows += [_drawn_face(rng, face, side_px) for _ in range(FACES_PER_SUBJECT)]
    pixels, levels, felt_va = (np.array(column) for column in zip(*rows, strict=True))
    return DrawnFaces(pixels, levels, felt_va.astype(np.float32))


def _drawn_face(
    rng: np.random.Generator, face: Face, side_px: int
) -> tuple[UInt8[np.ndarray, "H W 3"], Int8[np.ndarray, "P"], Float64[np.ndarray, "2"]]:
    weights = np.array(list(FACE_WEIGHTS.values()))
    unit = weights / np.linalg.norm(weights, axis=1, keepdims=True)
    felt_va = rng.normal(0, FELT_SD, 2)
    cues = unit @ felt_va + rng.normal(0, CUE_NOISE_SD, len(unit))
    cues = np.clip(cues, -CUE_LIMIT, CUE_LIMIT)
    speech = float(max(0.0, rng.normal(0.25, 0.35)))
    open_share = float(rng.uniform(0, 1)) if rng.random() < BLINK_SHARE else 1.0
    hand = float(rng.uniform(0.3, 1)) if rng.random() < HAND_SHARE else 0.0
    look = Look(cues, min(speech, 1.0), open_share, hand, float(rng.uniform(-0.4, 0.4)))
    yaw, pitch, roll = (rng.normal(0, 1, 3) * TURN_SDS).tolist()
    wall = np.clip(rng.uniform(50, 205) + rng.normal(0, 22, 3), 0, 255)
    pixels = draw_single(
        face, look, (yaw, pitch, roll), shade((0, 0, 0), 0.0, wall), rng.normal(0, 0.025, 3)
    )
    levels = part_levels(cues, jaw_opening(look), open_share)
    return _photograph(rng, pixels, side_px), levels, felt_va


def _photograph(
    rng: np.random.Generator, pixels: UInt8[np.ndarray, "112 112 3"], side_px: int
) -> UInt8[np.ndarray, "H W 3"]:
    """The crop with random light and camera noise, after JPEG compression and resizing."""
    side = np.linspace(-0.5, 0.5, pixels.shape[1])[None, :, None]
    lit = pixels * (rng.uniform(0.7, 1.15) * (1 + rng.uniform(-0.35, 0.35) * side))
    lit += rng.normal(0, rng.uniform(0.5, 4.0), pixels.shape)
    file = io.BytesIO()
    Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    crop = Image.open(file).resize((side_px, side_px), Image.Resampling.BICUBIC)
    return np.asarray(crop)


def audio_chunk(
    seed: int, chunk: int, seconds: float, steps_s: Float64[np.ndarray, "T"]
) -> tuple[Float32[np.ndarray, "N S"], Int8[np.ndarray, "N T K"]]:
    """The windows of sound of one chunk, and a 0 or 1 for each tag at each step.

    `steps_s` are the times of the steps from the start of a window.
    """
    rng = stream(seed, ENCODER_BRANCH, AUDIO, chunk)
    samples, tags = [], []
    for _ in range(VOICES_PER_CHUNK):
        length_s = WINDOWS_PER_VOICE * seconds
        level = rng.normal(0, 1.3, 2)
        trajectory = draw_trajectory(rng, length_s, level)
        cues = voice_cues(rng, trajectory, draw_temper(rng, DEFAULT_DIFFICULTY), DEFAULT_DIFFICULTY)
        voice = draw_voice_identity(rng)
        speech = plan_speech(rng, cues, voice)
        n_samples = int(length_s * SYNTH_HZ)
        music = bool(rng.random() < DEFAULT_DIFFICULTY.music_share)
        around = replace(DEFAULT_DIFFICULTY, music_share=float(music))
        sound = synthesise(rng, cues, speech, voice, n_samples)
        sound = sound + background_audio(rng, n_samples, around)
        near = partial(_moving_average, span=int(STEP_SPAN_S * GRID_HZ))
        scores = tag_scores(near(cues), near(speech.envelope[:, None])[:, 0], music=music)
        for window in range(WINDOWS_PER_VOICE):
            at_s = window * seconds + steps_s
            fit = scores[np.round(at_s * GRID_HZ).astype(int)]
            chance = 1 / (1 + np.exp(-TAG_SHARPNESS * fit))
            tags.append((rng.random(chance.shape) < chance).astype(np.int8))
            first = int(window * seconds * SYNTH_HZ)
            samples.append(sound[first : first + int(seconds * SYNTH_HZ)])
    return np.stack(samples), np.stack(tags)


def _moving_average(track: Float64[np.ndarray, "T K"], span: int) -> Float64[np.ndarray, "T K"]:
    kernel = np.ones(span) / span
    return np.stack([np.convolve(column, kernel, "same") for column in track.T], axis=1)


def join_faces(chunks: Sequence[DrawnFaces]) -> DrawnFaces:
    """The faces of all chunks, in order."""
    names = [field.name for field in fields(DrawnFaces)]
    return DrawnFaces(*(np.concatenate([getattr(c, name) for c in chunks]) for name in names))
