"""Drawn people who walk past each other, from detector to people, against who they are."""

import numpy as np
import pytest

from benchmarks.helpers.identities import Identities, faces_of, identities
from features.clip import Track
from features.encoders.faces import FacesConfig
from features.faces.detector import Faces
from features.faces.record import N_COLUMNS, TRACK, face_columns
from features.synthetic.crossing import CrossingFrame, draw_crossing


@pytest.mark.slow
def test_people_who_cross_keep_their_identity():
    frames = list(draw_crossing(seed=1, n_people=2, seconds=3.0, size_px=(320, 180)))
    assert not np.stack([frame.visible for frame in frames]).all()  # one hides the other
    found = identities(frames, faces_of(FacesConfig(), [frame.image for frame in frames]))

    assert found.n_found >= 0.95 * found.n_visible
    assert found.n_right >= 0.95 * found.n_found


def test_identities_are_counted_as_whom_each_person_is_most_often():
    boxes = np.array([[0.0, 0.0, 10.0, 10.0], [50.0, 0.0, 10.0, 10.0]])
    frames = [
        CrossingFrame(np.zeros((1, 1, 3), np.uint8), boxes, np.array([True, frame < 9]))
        for frame in range(10)
    ]
    values = np.zeros((10, 2, N_COLUMNS), np.float32)
    for frame in range(10):
        order = [1, 0] if frame in (3, 4, 9) else [0, 1]  # both are mistaken in three frames
        faces = Faces(
            boxes[order].astype(np.float32), np.zeros((2, 5, 2), np.float32), np.ones(2, np.float32)
        )
        values[frame] = face_columns(faces)
        values[frame, :, TRACK] = 1
    values[7, 0] = 0  # a miss
    record = Track(values.reshape(10, -1), np.arange(10) / 25, np.ones(10, bool))

    # 19 visible, one not found; of the first person 2 + 1 of 9 and of the second 2 of 9 are wrong
    assert identities(frames, record) == Identities(19, 18, 18 - 3 - 2)
