import numpy as np
import pytest

from features.faces.people import PeopleConfig, TrackSummary, appearance, people_of
from features.faces.yunet import YuNetConfig
from features.synthetic.drawing import Pose
from features.synthetic.people import draw_people

A, B = np.array([1.0, 0.0]), np.array([0.0, 1.0])


def track(number, first, last, look, area=1.0):
    summary = TrackSummary(number, first)
    for row in range(first, last + 1):
        summary.add(row, float(area), look)
    return summary


def ids(tracks, **keys):
    return [[each.id for each in person] for person in people_of(tracks, PeopleConfig(**keys))]


def test_tracks_of_one_look_are_one_person_after_a_gap():
    tracks = [track(1, 0, 9, A), track(2, 30, 39, A), track(3, 40, 44, B)]

    assert ids(tracks) == [[1, 2], [3]]


def test_people_seen_at_the_same_time_are_two_even_if_they_look_alike():
    assert ids([track(1, 0, 9, A), track(2, 5, 14, A)]) == [[1], [2]]


def test_people_are_ordered_by_the_area_of_their_faces_over_time():
    tracks = [track(1, 0, 9, A, area=1), track(2, 0, 4, B, area=3), track(3, 5, 9, A + B, area=2)]

    assert ids(tracks, min_similarity=0.9) == [[2], [1], [3]]  # 15, 10, 10


def test_a_face_of_a_few_frames_is_no_person_except_in_a_video_of_a_few_frames():
    assert ids([track(1, 0, 9, A), track(2, 0, 1, B)]) == [[1]]
    assert ids([track(1, 0, 0, A)]) == [[1]]


def test_of_a_crowd_the_largest_faces_are_joined(monkeypatch):
    monkeypatch.setattr("features.faces.people.MAX_TRACKS", 1)

    assert ids([track(1, 0, 9, A), track(2, 0, 9, B, area=2)]) == [[2]]


def test_a_video_without_faces_has_no_people():
    assert people_of([], PeopleConfig()) == []


@pytest.mark.slow
def test_drawn_people_are_told_apart_by_appearance():
    detector = YuNetConfig().build()

    def look(seed, **pose):
        image = draw_people([Pose(125.0, 95.0, 55.0, **pose)], seeds=[seed])
        [landmarks] = detector.detect(image).landmarks_px
        return appearance(image, landmarks)

    threshold = PeopleConfig().min_similarity
    looks = [look(seed) for seed in range(5, 10)]
    for seed, one in enumerate(looks, 5):
        assert one @ look(seed, yaw=0.15, roll=0.1) > threshold
    same_wall = np.array(looks) @ np.array(looks).T - np.eye(5)
    assert np.median(same_wall) < threshold
