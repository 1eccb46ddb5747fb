from types import SimpleNamespace

import numpy as np

from features.media.display import FrameConverter
from features.media.limits import DecodeLimits
from features.media.worker import requests
from features.media.worker.requests import PIECE_BYTES, PIECE_FRAMES, pieces
from features.timeline import constant_frame_times
from tests.helpers.whole_media import collect_frames


def blank(n_bytes: int) -> np.ndarray:
    return np.zeros((1, n_bytes // 3, 3), np.uint8)


def decode(monkeypatch, path, frames, fps=None, sampling=None):
    """`decode_video` of frames whose only pixel value is their index."""
    images = {id(frame): blank(3) + np.uint8(index) for index, frame in enumerate(frames)}

    def decoded_frames(tracks, decoded, *_):
        for frame in frames:
            decoded.stamps_s.append(frame.time)
            yield frame

    monkeypatch.setattr(requests, "decoded_frames", decoded_frames)
    monkeypatch.setattr(FrameConverter, "image", lambda _, frame: images[id(frame)])
    items = requests.decode_video(
        str(path), fps, sampling or {}, None, limits=DecodeLimits(), n_threads=1
    )
    decoded, times = collect_frames(items)
    return [int(image[0, 0, 0]) for image in decoded], times


def test_a_piece_is_limited_in_images_and_bytes_and_a_larger_image_is_its_own_piece():
    third, large = blank(PIECE_BYTES // 3), blank(2 * PIECE_BYTES)
    assert [len(piece) for piece in pieces([third] * 7)] == [3, 3, 1]
    assert [len(piece) for piece in pieces([third, large, third])] == [1, 1, 1]
    small = pieces([blank(3)] * (8 + 16 + 32 + 2 * PIECE_FRAMES + 1))  # the first ones are shorter
    assert [len(piece) for piece in small] == [8, 16, 32, PIECE_FRAMES, PIECE_FRAMES, 1]
    assert list(pieces([])) == []


def test_a_damaged_frame_is_a_row_without_an_image(monkeypatch, make_video):
    frames = [SimpleNamespace(time=k / 10, is_corrupt=k == 2) for k in range(5)]
    decoded, times = decode(monkeypatch, make_video(), frames)
    assert decoded == [0, 1, 3, 4]
    np.testing.assert_array_equal(times.rows, [0, 1, 3, 4])
    assert len(times.time_s) == 5


def test_frames_without_timestamps_are_sampled_at_the_declared_rate_or_25_fps(
    monkeypatch, make_video
):
    frames, path = [SimpleNamespace(time=None, is_corrupt=False) for _ in range(50)], make_video()
    times = constant_frame_times(len(frames), 25.0, "no timestamps")
    monkeypatch.setattr(requests, "frame_times", lambda *_: times)
    # one frame a second: of 50 frames at 10 fps every tenth, at 25 fps (the default) every 25th
    assert decode(monkeypatch, path, frames, 10.0, {"fps": 1})[0] == [0, 10, 20, 30, 40]
    assert decode(monkeypatch, path, frames, None, {"fps": 1})[0] == [0, 25]
