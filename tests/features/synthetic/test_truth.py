"""The true places of drawn faces, against what a detector finds."""

import numpy as np
import pytest

from features.faces.yunet import YuNetConfig
from features.synthetic.drawing import Pose
from features.synthetic.expression import FACE_CUES
from features.synthetic.face import Look, true_box, true_landmarks
from features.synthetic.identity import draw_face_identity
from tests.helpers.drawn_people import draw_people

LOOK = Look(np.zeros(len(FACE_CUES)))


@pytest.mark.parametrize("turn", [{}, {"roll": 0.2}, {"yaw": -0.25, "pitch": 0.1}], ids=str)
def test_true_landmarks_and_box_are_those_that_a_detector_finds(turn):
    pose = Pose(125.0, 95.0, 55.0, **turn)
    face = draw_face_identity(np.random.default_rng(5))
    found = YuNetConfig().build().detect(draw_people([pose], seeds=[5]))

    landmarks = true_landmarks(face, pose, LOOK)
    eyes_px = np.linalg.norm(landmarks[0] - landmarks[1])
    errors_px = np.linalg.norm(found.landmarks_px[0] - landmarks, axis=1)
    assert errors_px.mean() < 0.15 * eyes_px
    assert errors_px.max() < 0.25 * eyes_px
    np.testing.assert_allclose(true_box(face, pose, LOOK), found.boxes_px[0], atol=0.3 * eyes_px)


def test_a_smile_lifts_the_corners_of_the_mouth():
    pose = Pose(125.0, 95.0, 55.0)
    face = draw_face_identity(np.random.default_rng(5))
    cues = np.zeros(len(FACE_CUES))
    cues[FACE_CUES.index("smile")] = 1.0

    smiling, neutral = (true_landmarks(face, pose, look) for look in (Look(cues), LOOK))

    assert (smiling[3:, 1] < neutral[3:, 1]).all()
    np.testing.assert_array_equal(smiling[:3], neutral[:3])
