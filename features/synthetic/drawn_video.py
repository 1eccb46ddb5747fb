"""What is drawn of one video of a rendered set before a frame of it is.

A seed gives it anew, so that the truth of a rendered video need not be stored.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float32, Float64

from features.synthetic.actor import Actor, draw_actor
from features.synthetic.background_sound import background_audio
from features.synthetic.drawing import Pose
from features.synthetic.expression import DEFAULT_DIFFICULTY
from features.synthetic.face import Look, true_box, true_landmarks
from features.synthetic.identity import Face
from features.synthetic.plan import VideoPlan
from features.synthetic.random_streams import RENDERED_BRANCH, stream
from features.synthetic.scene import Scene, draw_scene
from features.synthetic.trajectory import Trajectory, draw_trajectory
from features.synthetic.video_writer import frame_times_s
from features.synthetic.voice import SYNTH_HZ


@dataclass(frozen=True, slots=True)
class TrueFaces:
    """Where the faces of P people are drawn in each of T frames, in pixels."""

    boxes_px: Float64[np.ndarray, "T P 4"]
    """Left, top, width, height: from hairline to chin."""
    landmarks_px: Float64[np.ndarray, "T P 5 2"]
    """In the order of `features.faces.detector.LANDMARKS`; pixel (0, 0) is at the origin."""
    turned: Float64[np.ndarray, "T P"]
    """How far the side of the head is drawn over the face: 0 not at all, 1 wholly."""
    hand: Float64[np.ndarray, "T P"]
    """Height of a hand before the face: 0 none, 1 over the mouth."""


@dataclass(frozen=True, slots=True)
class DrawnVideo:
    """People, room and sound of a video; what is random in its frames comes from `rng`."""

    times_s: Float64[np.ndarray, "T"]
    trajectories: tuple[Trajectory, ...]
    label_rngs: tuple[np.random.Generator, ...]
    people: tuple[Actor, ...]
    sound: Float32[np.ndarray, "S"] | None
    scene: Scene
    rng: np.random.Generator

    def people_at(self, time_s: float) -> tuple[tuple[Face, Pose, Look], ...]:
        """Everybody's face with pose and look at a time, from left to right."""
        seats = zip(self.people, self.scene.homes_px, self.scene.half_heights_px, strict=True)
        return tuple((actor.face, *actor.at(time_s, at, half)) for actor, at, half in seats)

    def true_faces(self) -> TrueFaces:
        """Where the faces are in each frame."""
        frames = [self.people_at(time_s) for time_s in self.times_s.tolist()]
        return TrueFaces(
            np.array([[true_box(*person) for person in people] for people in frames]),
            np.array([[true_landmarks(*person) for person in people] for people in frames]),
            np.array([[abs(look.turned) for _, _, look in people] for people in frames]),
            np.array([[look.hand for _, _, look in people] for people in frames]),
        )


def draw_video(plan: VideoPlan, seed: int) -> DrawnVideo:
    """Draw what a video of the set of this seed consists of; equal input gives an equal video."""
    draw = partial(stream, seed, RENDERED_BRANCH, 1, plan.index)
    rng = draw(0)
    times_s = frame_times_s(plan, seed)
    duration_s = float(times_s[-1] + np.median(np.diff(times_s)))
    n_samples = int(duration_s * SYNTH_HZ)
    label_rngs = tuple(draw(1, person) for person in range(len(plan.levels)))
    trajectories = tuple(
        draw_trajectory(label_rng, duration_s, np.array(level))
        for label_rng, level in zip(label_rngs, plan.levels, strict=True)
    )
    people = tuple(
        draw_actor(draw(2, person), trajectory, n_samples, DEFAULT_DIFFICULTY)
        for person, trajectory in enumerate(trajectories)
    )
    sound = None
    if plan.case.sound:
        sound = background_audio(rng, n_samples, DEFAULT_DIFFICULTY)
        sound = sound + np.sum([person.sound for person in people], axis=0)
    scene = draw_scene(rng, plan.size_px, len(people), float(times_s[-1]))
    return DrawnVideo(times_s, trajectories, label_rngs, people, sound, scene, rng)
