"""The true places of drawn faces, against what a detector finds."""

from contextlib import closing

import numpy as np
import pytest

from features.faces.tracker import overlaps
from features.faces.yunet import YuNetConfig
from features.media.decoder import Decoder
from features.media.limits import DEFAULT_LIMITS
from features.synthetic.dataset_writer import write_video
from features.synthetic.drawing import Pose
from features.synthetic.drawn_video import draw_video
from features.synthetic.expression import FACE_CUES
from features.synthetic.face import Look, true_box, true_landmarks
from features.synthetic.identity import draw_face_identity
from features.synthetic.people import draw_people
from features.synthetic.plan import plan_set

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


@pytest.mark.slow
def test_the_truth_of_a_rendered_video_is_computed_anew_from_its_seed(tmp_path):
    plan = next(p for p in plan_set(clips=8, seconds=1.0, seed=3) if p.case.people == 2)
    write_video(tmp_path, plan, seed=3)
    truth = draw_video(plan, seed=3).true_faces()
    detector = YuNetConfig().build()
    with closing(Decoder(DEFAULT_LIMITS)) as decoder:
        items = decoder.frames(tmp_path / "videos" / plan.batch / plan.file_name, None)
        found = [detector.detect(image) for item in items if isinstance(item, list)
                 for image in item]  # fmt: skip

    assert truth.boxes_px.shape == (len(found), 2, 4)
    in_view = (truth.turned == 0) & (truth.hand == 0)
    assert in_view.mean() > 0.5
    errors = []
    for frame, person in np.argwhere(in_view):
        overlap = overlaps(truth.boxes_px[frame], found[frame].boxes_px.astype(np.float64))[person]
        assert overlap.max() > 0.4
        landmarks = truth.landmarks_px[frame, person]
        eyes_px = np.linalg.norm(landmarks[0] - landmarks[1])
        distance = np.linalg.norm(found[frame].landmarks_px[overlap.argmax()] - landmarks, axis=1)
        errors.append(distance.mean() / eyes_px)
    assert np.mean(errors) < 0.15
    assert np.abs(np.diff(truth.boxes_px, axis=0)).max() > 0  # heads move
