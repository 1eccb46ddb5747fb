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
def slab():
    fd = os.memfd_create("test")
    os.ftruncate(fd, N_SLOTS * 4096)
    yield SharedBuffer(fd, 4096)
    os.close(fd)


def test_arrays_come_out_of_their_slot_as_they_went_in(slab):
    rng = np.random.default_rng(0)
    kept = {}
    for slot in range(N_SLOTS):
        arrays = [rng.integers(0, 255, (3, 5, 3), dtype=np.uint8), rng.normal(size=(7,))]
        kept[slot] = arrays, slab.put(slot, arrays)
    for slot, (arrays, listed) in kept.items():
        for found, wanted in zip(slab.get(slot, listed), arrays, strict=True):
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("slot", "listed"),
    [
        (0, [{"dtype": "uint8", "shape": [4097]}]),
        (0, [{"dtype": "uint8", "shape": [4000]}, {"dtype": "float64", "shape": [13]}]),
        (0, [{"dtype": "uint8", "shape": [-1, -4]}]),
        (0, [{"dtype": "object", "shape": [1]}]),
        (N_SLOTS, [{"dtype": "uint8", "shape": [1]}]),
        (-1, [{"dtype": "uint8", "shape": [1]}]),
    ],
)
def test_what_lies_outside_a_slot_is_not_read(slab, slot, listed):
    with pytest.raises(ValueError, match="slot|is not taken in"):
        slab.get(slot, listed)


def test_a_record_arrives_as_it_was_and_is_not_read_beyond_its_limit():
    ours, theirs = Pipe()
    clock = FrameTimes(np.array([0.1, 0.2, 1 / 3]), np.array([0, 2]), "odd")
    send_record(theirs, "end", clock)
    found = receive_record(ours, receive(ours), FrameTimes, max_bytes=24)
    np.testing.assert_array_equal(found.time_s, clock.time_s)
    np.testing.assert_array_equal(found.rows, clock.rows)
    assert found.note == "odd"
    send_record(theirs, "end", clock)
    with pytest.raises(ValueError, match="'time_s' has 24 bytes; at most 23"):
        receive_record(ours, receive(ours), FrameTimes, max_bytes=23)


def test_a_message_is_an_object():
    ours, theirs = Pipe()
    theirs.send_bytes(b"[1]")
    with pytest.raises(ValueError, match="a message is a JSON object, not a list"):
        receive(ours)
    send(theirs, {"arrays": [array_header(np.zeros((2, 3), np.uint8))]})
    assert receive(ours) == {"arrays": [{"dtype": "uint8", "shape": [2, 3]}]}
