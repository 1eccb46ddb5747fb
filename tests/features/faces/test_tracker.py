import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.faces.tracker import Tracker, TrackerConfig, overlaps

SIDE = 40.0


def boxes(*lefts, top=0.0):
    return np.array([[x, top, SIDE, SIDE] for x in lefts], np.float32).reshape(-1, 4)


def test_overlap_is_intersection_over_union():
    first = np.array([[0, 0, 2, 2], [10, 10, 1, 1.0]])
    second = np.array([[1, 0, 2, 2], [0, 0, 2, 2.0]])

    # 1 x 2 shared of 4 + 4 - 2
    np.testing.assert_allclose(overlaps(first, second), [[1 / 3, 1], [0, 0]])


def test_a_face_that_moves_keeps_its_track_and_a_new_one_gets_the_next_number():
    tracker = Tracker(TrackerConfig())

    assert tracker.update(boxes(0)).tolist() == [1]
    assert tracker.update(boxes(200, 5)).tolist() == [2, 1]
    assert tracker.update(boxes(10, 205, 400)).tolist() == [1, 2, 3]


def test_the_pairs_of_largest_total_overlap_are_chosen():
    tracker = Tracker(TrackerConfig(speed_memory=1.0))
    tracker.update(boxes(0, 20))

    # one by one, the face at 18 would take track 2, and leave 1 without a face that overlaps
    assert tracker.update(boxes(18, 36)).tolist() == [1, 2]


@pytest.mark.parametrize(("n_frames", "expected"), [(15, 1), (16, 2)])
def test_a_track_survives_a_gap_of_so_many_frames(n_frames, expected):
    tracker = Tracker(TrackerConfig())
    tracker.update(boxes(0))
    for _ in range(n_frames):
        assert tracker.update(boxes()).tolist() == []

    assert tracker.update(boxes(0)).tolist() == [expected]


def test_all_tracks_end_at_a_cut():
    tracker = Tracker(TrackerConfig())
    tracker.update(boxes(0, 100))

    assert tracker.update(boxes(0, 100), is_cut=True).tolist() == [3, 4]


def test_a_face_is_expected_where_its_movement_leads():
    def ids(memory):
        tracker = Tracker(TrackerConfig(speed_memory=memory))
        for frame in range(10):
            tracker.update(boxes(10.0 * frame))
        for _ in range(8):
            tracker.update(boxes())
        return tracker.update(boxes(10.0 * 18)).tolist()

    assert ids(0.5) == [1]
    assert ids(1.0) == [2]


def cross(n_hidden, embed):
    """The ids of two people who walk through each other; the second is hidden in the middle."""
    tracker = Tracker(TrackerConfig())
    found = []
    for frame in range(60):
        x, y = 4.0 * frame, 240 - 4.0 * frame
        hidden = abs(frame - 30) < n_hidden
        people = [(x, 0)] if hidden else [(x, 0), (y, 1)]
        if frame % 2:
            people.reverse()  # the order of detections says nothing
        vectors = np.eye(2, dtype=np.float32)[[who for _, who in people]]
        ids = tracker.update(
            boxes(*(at for at, _ in people)), embeddings=vectors if embed else None
        )
        found += [(who, int(track)) for (_, who), track in zip(people, ids, strict=True)]
    return found


@pytest.mark.parametrize("embed", [False, True])
@pytest.mark.parametrize("n_hidden", [0, 4, 7])
def test_people_who_cross_keep_their_tracks(n_hidden, embed):
    assert set(cross(n_hidden, embed)) == {(0, 1), (1, 2)}


def test_embeddings_decide_where_two_faces_are_equally_near():
    def ids(swapped):
        tracker = Tracker(TrackerConfig())
        tracker.update(boxes(0, 10), embeddings=np.eye(2, dtype=np.float32))
        vectors = np.eye(2, dtype=np.float32)[:: -1 if swapped else 1]
        return tracker.update(boxes(5, 5.001), embeddings=vectors.copy()).tolist()

    assert ids(swapped=False) == [1, 2]
    assert ids(swapped=True) == [2, 1]


def test_a_lost_face_is_found_elsewhere_by_its_looks():
    tracker = Tracker(TrackerConfig())
    looks = np.array([[3.0, 4.0]], np.float32)
    tracker.update(boxes(0), embeddings=looks)
    tracker.update(boxes())

    assert tracker.update(boxes(500), embeddings=2 * looks).tolist() == [1]
    assert tracker.update(boxes(0), embeddings=np.array([[4.0, -3.0]], np.float32)).tolist() == [2]


@given(st.lists(st.lists(st.floats(0, 300, width=32), max_size=5), max_size=25))
def test_ids_are_unique_in_a_frame_counted_from_1_and_the_same_again(frames):
    def run():
        tracker = Tracker(TrackerConfig(max_gap_frames=3))
        return [tracker.update(boxes(*lefts)).tolist() for lefts in frames]

    ids = run()

    assert ids == run()
    assert all(len(set(each)) == len(each) for each in ids)
    seen = list(dict.fromkeys(track for each in ids for track in sorted(each)))
    assert seen == list(range(1, len(seen) + 1))


def test_nothing_is_kept_of_tracks_that_ended():
    tracker = Tracker(TrackerConfig(max_gap_frames=2))
    for frame in range(200):
        tracker.update(boxes(1000.0 * frame))

    assert len(tracker._tracks) <= 4
