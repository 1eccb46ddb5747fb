import os
from multiprocessing import Pipe

import numpy as np
import pytest

from features.media.worker.protocol import (
    N_SLOTS,
    SharedBuffer,
    array_header,
    receive,
    receive_record,
    send,
    send_record,
)
from features.timeline import FrameTimes


@pytest.fixture
def buffer():
    fd = os.memfd_create("test")
    os.ftruncate(fd, N_SLOTS * 4096)
    yield SharedBuffer(fd, 4096)
    os.close(fd)


def test_a_slot_returns_the_arrays_put_into_it(buffer):
    rng = np.random.default_rng(0)
    stored = {}
    for slot in range(N_SLOTS):
        arrays = [rng.integers(0, 255, (3, 5, 3), dtype=np.uint8), rng.normal(size=(7,))]
        stored[slot] = arrays, buffer.put(slot, arrays)
    for slot, (arrays, headers) in stored.items():
        for found, expected in zip(buffer.get(slot, headers), arrays, strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("slot", "headers"),
    [
        (0, [{"dtype": "uint8", "shape": [4097]}]),
        (0, [{"dtype": "uint8", "shape": [4000]}, {"dtype": "float64", "shape": [13]}]),
        (0, [{"dtype": "uint8", "shape": [-1, -4]}]),
        (0, [{"dtype": "object", "shape": [1]}]),
        (N_SLOTS, [{"dtype": "uint8", "shape": [1]}]),
        (-1, [{"dtype": "uint8", "shape": [1]}]),
    ],
)
def test_arrays_outside_a_slot_are_not_read(buffer, slot, headers):
    with pytest.raises(ValueError, match="slot|is not accepted"):
        buffer.get(slot, headers)


def test_a_record_arrives_unchanged_and_arrays_above_the_limit_are_refused():
    ours, theirs = Pipe()
    times = FrameTimes(np.array([0.1, 0.2, 1 / 3]), np.array([0, 2]), "odd")
    send_record(theirs, times)
    found = receive_record(ours, receive(ours), FrameTimes, max_bytes=24)
    np.testing.assert_array_equal(found.time_s, times.time_s)
    np.testing.assert_array_equal(found.rows, times.rows)
    assert found.note == "odd"
    send_record(theirs, times)
    with pytest.raises(ValueError, match="'time_s' has 24 bytes; at most 23"):
        receive_record(ours, receive(ours), FrameTimes, max_bytes=23)


def test_a_message_that_is_no_json_object_is_refused():
    ours, theirs = Pipe()
    theirs.send_bytes(b"[1]")
    with pytest.raises(ValueError, match="a message is a JSON object, not a list"):
        receive(ours)
    send(theirs, {"arrays": [array_header(np.zeros((2, 3), np.uint8))]})
    assert receive(ours) == {"arrays": [{"dtype": "uint8", "shape": [2, 3]}]}
