"""An actor: face, head, hands and voice of one person over one clip, sampled on the grid."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64

from features.synthetic.drawing import Pose
from features.synthetic.expression import Difficulty, blinks, draw_temper, face_cues, voice_cues
from features.synthetic.face import Look
from features.synthetic.identity import Face, draw_face_identity, draw_voice_identity
from features.synthetic.trajectory import GRID_HZ, Trajectory, noises, smooth_noise
from features.synthetic.voice import plan_speech, synthesise

YAW_SD, PITCH_SD, ROLL_SD = 0.13, 0.07, 0.06  # of the head around its mean pose, radians
TURN_TAU_S = 0.7
SWAY_SHARE = 0.045  # of the head's position, in half-heights
NOD_RADIANS = -0.035  # pitch per standard deviation of the cue: up when it is high
MOTION_SHARE = 0.25  # relative increase of movement per standard deviation of arousal
TURN_LIMIT = 0.42  # the drawing is not valid beyond it
HAND_S, TURNED_S = (0.6, 1.8), (0.7, 2.0)
GAZE_TAU_S = 0.35


@dataclass(frozen=True, slots=True)
class Actor:
    """One person in one clip. Every array has one row per grid step."""

    face: Face
    cues: Float64[np.ndarray, "T F"]
    speech: Float64[np.ndarray, "T"]
    open_share: Float64[np.ndarray, "T"]
    turn: Float64[np.ndarray, "T 3"]
    """Yaw, pitch and roll."""
    sway: Float64[np.ndarray, "T 2"]
    gaze: Float64[np.ndarray, "T"]
    hand: Float64[np.ndarray, "T"]
    hand_x: float
    turned: Float64[np.ndarray, "T"]
    """0 faces the camera, -1 and 1 are turned away."""
    sound: Float32[np.ndarray, "S"]

    def at(
        self, time_s: float, home_px: tuple[float, float], half_height_px: float
    ) -> tuple[Pose, Look]:
        """Return pose and look at a time, for a head that rests at `home_px`."""
        i = min(round(time_s * GRID_HZ), len(self.cues) - 1)
        yaw, pitch, roll = self.turn[i].tolist()
        dx, dy = (self.sway[i] * half_height_px).tolist()
        x_px, y_px = home_px[0] + dx, home_px[1] + dy
        pose = Pose(x_px, y_px, half_height_px, yaw, pitch, roll, float(self.gaze[i]))
        look = Look(
            cues=self.cues[i],
            speech=float(self.speech[i]),
            open_share=float(self.open_share[i]),
            hand=float(self.hand[i]),
            hand_x=self.hand_x,
            turned=float(self.turned[i]),
        )
        return pose, look


def draw_actor(
    rng: np.random.Generator, trajectory: Trajectory, n_samples: int, difficulty: Difficulty
) -> Actor:
    """Return a random actor that follows a trajectory."""
    face, voice = draw_face_identity(rng), draw_voice_identity(rng)
    temper = draw_temper(rng, difficulty)
    cues = face_cues(rng, trajectory, temper, difficulty)
    sounding = voice_cues(rng, trajectory, temper, difficulty)
    speech = plan_speech(rng, sounding, voice)
    n_steps = len(cues)
    turned = rng.choice((-1.0, 1.0)) * _bursts(rng, n_steps, difficulty.turned_per_min, TURNED_S)
    turn = _turns(rng, trajectory, cues)
    turn[:, 0] += (np.sign(turned) * TURN_LIMIT - turn[:, 0]) * np.abs(turned)
    sway = SWAY_SHARE * noises(rng, 2, n_steps, 1.5)
    return Actor(
        face=face,
        cues=cues,
        speech=speech.envelope,
        open_share=blinks(rng, n_steps),
        turn=turn,
        sway=sway,
        gaze=np.clip(0.5 * smooth_noise(rng, n_steps, GAZE_TAU_S), -1, 1),
        hand=_bursts(rng, n_steps, difficulty.hands_per_min, HAND_S),
        hand_x=float(rng.uniform(-0.4, 0.4)),
        turned=turned,
        sound=synthesise(rng, sounding, speech, voice, n_samples),
    )


def _turns(
    rng: np.random.Generator, trajectory: Trajectory, cues: Float64[np.ndarray, "T F"]
) -> Float64[np.ndarray, "T 3"]:
    """Return yaw, pitch and roll: faster with arousal, around the subject's own posture."""
    sds = np.array([YAW_SD, PITCH_SD, ROLL_SD])
    lively = np.clip(1 + MOTION_SHARE * trajectory.standard()[:, 1:], 0.4, 1.8)  # (T, 1)
    wander = noises(rng, 3, len(cues), TURN_TAU_S)
    turn = sds * (0.7 * rng.standard_normal(3) + lively * wander)
    turn[:, 1] += NOD_RADIANS * cues[:, -1]
    return np.clip(turn, -TURN_LIMIT, TURN_LIMIT)


def _bursts(
    rng: np.random.Generator, n_steps: int, per_min: float, lengths_s: tuple[float, float]
) -> Float64[np.ndarray, "T"]:
    """Return a signal that is 0 except for bursts that rise to 1 and fall again."""
    track = np.zeros(n_steps)
    for _ in range(rng.poisson(per_min * n_steps / GRID_HZ / 60)):
        length = int(rng.uniform(*lengths_s) * GRID_HZ)
        start = int(rng.integers(0, n_steps))
        part = track[start : start + length]
        part[:] = np.clip(2.5 * np.sin(np.pi * np.arange(len(part)) / length), 0, 1)
    return track
