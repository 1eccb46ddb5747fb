"""Faces and voices: what shows and sounds, what is noise, and what must not tell."""

from dataclasses import fields, replace

import numpy as np
import pytest

from features.synthetic.actor import TURN_LIMIT, draw_actor
from features.synthetic.expression import (
    DEFAULT_DIFFICULTY,
    FACE_CUES,
    FACE_WEIGHTS,
    VOICE_CUES,
    Difficulty,
    blinks,
    draw_temper,
    face_cues,
    voice_cues,
)
from features.synthetic.face import CROP_PX, Look, draw_single
from features.synthetic.identity import draw_face_identity, draw_voice_identity
from features.synthetic.scene import draw_scene
from features.synthetic.trajectory import GRID_HZ, Trajectory, draw_trajectory
from features.synthetic.voice import SYNTH_HZ, plan_speech, synthesise

NO_NOISE = replace(
    DEFAULT_DIFFICULTY,
    **{f.name: 0.0 for f in fields(Difficulty) if f.name.endswith(("_sd", "per_min"))},
)
GREY = (128, 128, 128)


def still(valence: float, arousal: float, n_steps: int = 150) -> Trajectory:
    return Trajectory(np.full(n_steps, valence), np.full(n_steps, arousal))


def neutral(**cues: float) -> Look:
    return Look(np.array([cues.get(name, 0.0) for name in FACE_CUES]))


def test_without_noise_a_cue_is_its_weights_times_what_is_felt():
    rng = np.random.default_rng(0)
    trajectory = still(0.074 + 0.402, 0.297)  # one standard deviation of valence, none of arousal
    cues = face_cues(rng, trajectory, draw_temper(rng, NO_NOISE), NO_NOISE)
    np.testing.assert_allclose(cues[7], [weight[0] for weight in FACE_WEIGHTS.values()])


def test_the_face_tells_valence_better_and_the_voice_arousal():
    rng = np.random.default_rng(1)
    told = {"face": np.zeros(2), "voice": np.zeros(2)}
    for _ in range(30):
        trajectory = draw_trajectory(rng, 15.0, rng.standard_normal(2))
        temper = draw_temper(rng, DEFAULT_DIFFICULTY)
        for name, cues in (
            ("face", face_cues(rng, trajectory, temper, DEFAULT_DIFFICULTY)),
            ("voice", voice_cues(rng, trajectory, temper, DEFAULT_DIFFICULTY)),
        ):
            design = np.column_stack([cues, np.ones(len(cues))])
            fit = design @ np.linalg.lstsq(design, trajectory.standard(), rcond=None)[0]
            told[name] += fit.var(axis=0) / trajectory.standard().var(axis=0) / 30
    assert told["voice"][1] > told["voice"][0]
    assert told["face"][0] > told["voice"][0]


@pytest.mark.parametrize("cue", [name for name in FACE_CUES if name != "nod"])
def test_every_cue_of_the_face_changes_the_picture(cue):
    face = draw_face_identity(np.random.default_rng(3))
    low, high = (
        draw_single(face, neutral(**{cue: value}), (0.0, 0.0, 0.0), GREY).astype(int)
        for value in (-1.5, 1.5)
    )
    assert low.shape == (CROP_PX, CROP_PX, 3)
    assert np.abs(low - high).mean() > 0.15


def test_a_blink_closes_the_eyes_and_a_hand_hides_the_mouth():
    face = draw_face_identity(np.random.default_rng(3))
    open_eyed = draw_single(face, neutral(), (0.0, 0.0, 0.0), GREY).astype(int)
    shut = draw_single(face, replace(neutral(), open_share=0.0), (0.0, 0.0, 0.0), GREY)
    hidden = draw_single(face, replace(neutral(), hand=1.0), (0.0, 0.0, 0.0), GREY)
    assert np.abs(open_eyed - shut)[40:62].mean() > np.abs(open_eyed - shut)[70:].mean()
    assert np.abs(open_eyed - hidden)[70:].mean() > 5


def test_a_head_that_turns_away_hides_its_face_bit_by_bit():
    face = draw_face_identity(np.random.default_rng(3))
    half, away = (replace(neutral(), turned=share) for share in (0.5, 1.0))

    def told(look: Look) -> np.ndarray:
        """How much a smile changes of the picture, by column."""
        smiling = replace(neutral(smile=1.5, cheeks=1.5), turned=look.turned)
        seen = [draw_single(face, x, (0.0, 0.0, 0.0), GREY).astype(int) for x in (look, smiling)]
        return np.abs(seen[0] - seen[1]).mean(axis=(0, 2))

    front = told(neutral())
    assert front[:56].sum() > 1
    assert front[56:].sum() > 1
    assert told(half)[:52].sum() == 0  # the left half is behind hair and cheek
    assert told(half)[60:].sum() > 1
    assert told(away).sum() < 0.05 * front.sum()


def test_a_head_turns_away_and_a_hand_comes_up_now_and_then():
    difficulty = replace(DEFAULT_DIFFICULTY, turned_per_min=20.0, hands_per_min=20.0)
    person = draw_actor(np.random.default_rng(1), still(0.2, 0.3, 1500), SYNTH_HZ, difficulty)
    for track in (np.abs(person.turned), person.hand):
        assert track.max() == 1
        assert 0.05 < (track > 0).mean() < 0.8
    away = np.abs(person.turned) == 1
    np.testing.assert_allclose(person.turn[away, 0], TURN_LIMIT * person.turned[away])
    i = int(np.argmax(away))
    pose, look = person.at(i / GRID_HZ, (50.0, 50.0), 20.0)
    assert (look.turned, pose.yaw) == (person.turned[i], person.turn[i, 0])
    calm = replace(difficulty, turned_per_min=0.0, hands_per_min=0.0)
    still_person = draw_actor(np.random.default_rng(1), still(0.2, 0.3, 1500), SYNTH_HZ, calm)
    assert not still_person.turned.any()
    assert not still_person.hand.any()


def test_blinks_are_short():
    open_share = blinks(np.random.default_rng(0), 3000)
    assert open_share.min() < 0.3
    assert open_share.mean() > 0.9


def voiced(**cues: float) -> np.ndarray:
    """Three seconds of one voice at constant cues."""
    rng = np.random.default_rng(4)
    voice = draw_voice_identity(rng)
    track = np.tile([cues.get(name, 0.0) for name in VOICE_CUES], (150, 1)).astype(np.float64)
    speech = plan_speech(np.random.default_rng(5), track, voice)
    return synthesise(np.random.default_rng(6), track, speech, voice, 3 * SYNTH_HZ)


def centroid_hz(sound: np.ndarray) -> float:
    power = np.abs(np.fft.rfft(sound)) ** 2
    return float((np.fft.rfftfreq(len(sound), 1 / SYNTH_HZ) * power).sum() / power.sum())


def syllables(sound: np.ndarray) -> int:
    """How often the loudness rises through a quarter of its peak."""
    loudness = np.convolve(np.abs(sound), np.ones(480) / 480, "same")
    above = loudness > 0.25 * loudness.max()
    return int((above[1:] & ~above[:-1]).sum())


def test_a_voice_gets_louder_brighter_and_faster_by_its_cues():
    assert voiced(loudness=1.0).std() / voiced(loudness=-1.0).std() == pytest.approx(
        10 ** (8 / 20), rel=0.15
    )  # 4 dB per standard deviation
    assert centroid_hz(voiced(brightness=2.0)) > 1.1 * centroid_hz(voiced(brightness=-2.0))
    assert syllables(voiced(tempo=2.0)) > syllables(voiced(tempo=-2.0))


def test_a_rough_voice_is_hoarse_and_a_smiling_one_bright_above():
    def power(sound: np.ndarray, low_hz: float, high_hz: float) -> float:
        hz = np.fft.rfftfreq(len(sound), 1 / SYNTH_HZ)
        spectrum = np.abs(np.fft.rfft(sound)) ** 2
        return float(spectrum[(hz >= low_hz) & (hz < high_hz)].sum())

    clear, rough = voiced(roughness=-1.0), voiced(roughness=1.0)
    assert power(rough, 7000, 8000) > 3 * power(clear, 7000, 8000)  # 12 dB, less what hisses anyway
    plain, smiling = voiced(spread=-1.0), voiced(spread=1.0)
    gain = power(smiling, 1600, 4000) / power(smiling, 0, 1000)
    assert gain > 2 * power(plain, 1600, 4000) / power(plain, 0, 1000)


def test_pitch_rises_by_three_semitones_per_standard_deviation():
    def pitch_hz(sound: np.ndarray) -> float:
        spectrum = np.fft.rfft(sound, 2 * len(sound))
        lags = np.fft.irfft(np.abs(spectrum) ** 2)[: SYNTH_HZ // 70]
        first = SYNTH_HZ // 400
        return SYNTH_HZ / (first + int(np.argmax(lags[first:])))

    low, high = (pitch_hz(voiced(pitch=value, lilt=-1.5 / 4.5)) for value in (-1.0, 1.0))
    assert 12 * np.log2(high / low) == pytest.approx(6, abs=1)


def test_beside_the_person_the_picture_knows_nothing_of_v_or_a():
    def picture(valence: float, arousal: float) -> np.ndarray:
        scene = draw_scene(np.random.default_rng(2), (320, 240), 1, 3.0)
        trajectory = still(valence, arousal)
        person = draw_actor(np.random.default_rng(3), trajectory, SYNTH_HZ, DEFAULT_DIFFICULTY)
        seen = person.at(1.0, scene.homes_px[0], scene.half_heights_px[0])
        return scene.frame(np.random.default_rng(4), 1.0, ((person.face, *seen),))

    sad, glad = picture(-0.8, -0.4), picture(0.9, 0.9)
    differs = (sad != glad).any(axis=(0, 2))  # by column
    assert differs[100:220].any()  # the face tells
    assert not differs[:30].any()  # wall, light and camera do not
    assert not differs[290:].any()


def test_a_person_is_the_same_for_the_same_stream():
    def one() -> np.ndarray:
        rng = np.random.default_rng(8)
        return draw_actor(rng, still(0.3, 0.5, 100), SYNTH_HZ, DEFAULT_DIFFICULTY).sound

    np.testing.assert_array_equal(one(), one())
