from types import SimpleNamespace

import numpy as np
import pytest

from features.media.limits import DecodeLimits
from features.media.worker import requests as reading
from features.media.worker.requests import PIECE_BYTES, PIECE_FRAMES, pieces


def blank(n_bytes: int) -> np.ndarray:
    return np.zeros((1, n_bytes // 3, 3), np.uint8)


def test_a_piece_has_so_many_pictures_and_bytes_and_a_larger_picture_is_one_of_its_own():
    third, large = blank(PIECE_BYTES // 3), blank(2 * PIECE_BYTES)
    assert [len(piece) for piece in pieces([third] * 7)] == [3, 3, 1]
    assert [len(piece) for piece in pieces([third, large, third])] == [1, 1, 1]
    found = pieces([blank(3)] * (8 + 16 + 32 + 2 * PIECE_FRAMES + 1))  # the first ones shorter
    assert [len(piece) for piece in found] == [8, 16, 32, PIECE_FRAMES, PIECE_FRAMES, 1]
    assert list(pieces([])) == []


def test_a_damaged_frame_is_a_row_without_a_picture(monkeypatch):
    frames = [SimpleNamespace(time=k / 10, is_corrupt=k == 2) for k in range(5)]
    monkeypatch.setattr(reading, "decoded_frames", lambda *_: iter(frames))
    monkeypatch.setattr(
        reading, "pixels", lambda frame: blank(3) + np.uint8(round(frame.time * 10))
    )
    found = reading.video_frames("a.mp4", None, {}, limits=DecodeLimits(), n_threads=1)
    assert [int(picture[0, 0, 0]) for picture in next(found)] == [0, 1, 3, 4]
    with pytest.raises(StopIteration) as end:
        next(found)
    np.testing.assert_array_equal(end.value.value.rows, [0, 1, 3, 4])
    assert len(end.value.value.time_s) == 5
