"""What two processes tell each other: JSON, and arrays. Nothing that comes in is ever unpickled."""

import json
import mmap
from collections.abc import Sequence
from dataclasses import fields
from math import prod
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import numpy as np

from features.canonical_json import JsonObject

N_SLOTS = 3  # one is filled, one waits, one is read
MAX_JSON_BYTES = 1 << 20
DTYPES = ("uint8", "int64", "float32", "float64")  # what may come in

RecordT = TypeVar("RecordT")


class SharedBuffer:
    """Slots of memory that two processes see.

    The memory is a file without a name: nothing of it is left, however the processes end.
    """

    def __init__(self, fd: int, slot_bytes: int) -> None:
        self.slot_bytes = slot_bytes
        self._memory = mmap.mmap(fd, N_SLOTS * slot_bytes)

    def put(self, slot: int, arrays: Sequence[np.ndarray]) -> list[JsonObject]:
        """Copy arrays into a slot, one after another; what `get` must know of them."""
        at = slot * self.slot_bytes
        for array in arrays:
            np.ndarray(array.shape, array.dtype, self._memory, at)[...] = array
            at += array.nbytes
        return [array_header(array) for array in arrays]

    def get(self, slot: int, listed: Sequence[JsonObject]) -> list[np.ndarray]:
        """The arrays of a slot, where they lie; `ValueError` where they would not fit into it."""
        if not 0 <= slot < N_SLOTS:
            raise ValueError(f"there is no slot {slot}; there are {N_SLOTS}")
        at, arrays = slot * self.slot_bytes, []
        for one in listed:
            dtype, shape, n_bytes = _checked(one)
            if at + n_bytes > (slot + 1) * self.slot_bytes:
                raise ValueError(f"arrays of a slot of {self.slot_bytes} bytes go beyond it")
            arrays.append(np.ndarray(shape, dtype, self._memory, at))
            at += n_bytes
        return arrays


def send(connection: Connection, message: JsonObject) -> None:
    """Send a message."""
    connection.send_bytes(json.dumps(message).encode())


def receive(connection: Connection) -> JsonObject:
    """Wait for a message; `EOFError` where the other side is gone, `ValueError` if it is none."""
    message = json.loads(connection.recv_bytes(MAX_JSON_BYTES))
    if not isinstance(message, dict):
        raise ValueError(f"a message is a JSON object, not a {type(message).__name__}")
    return message


def send_record(connection: Connection, kind: str, record: object) -> None:
    """Send a frozen dataclass of JSON values and arrays, or one JSON value."""
    if not hasattr(record, "__dataclass_fields__"):
        send(connection, {"kind": kind, "value": record})
        return
    values = {field.name: getattr(record, field.name) for field in fields(record)}  # pyright: ignore[reportArgumentType]
    arrays = {k: np.ascontiguousarray(v) for k, v in values.items() if isinstance(v, np.ndarray)}
    plain = {k: v for k, v in values.items() if k not in arrays}
    listed = {name: array_header(array) for name, array in arrays.items()}
    send(connection, {"kind": kind, "value": plain, "arrays": listed})
    for array in arrays.values():
        connection.send_bytes(array.tobytes())


def receive_record(
    connection: Connection, message: JsonObject, record: type[RecordT], max_bytes: int
) -> RecordT:
    """The dataclass that `send_record` sent; `ValueError` where an array exceeds `max_bytes`."""
    arrays: dict[str, np.ndarray] = {}
    for name, one in message["arrays"].items():
        dtype, shape, n_bytes = _checked(one)
        if n_bytes > max_bytes:
            raise ValueError(
                f"the array {name!r} has {n_bytes} bytes; at most {max_bytes} are read"
            )
        arrays[name] = np.frombuffer(connection.recv_bytes(n_bytes), dtype).reshape(shape)
    return record(**message["value"], **arrays)


def array_header(array: np.ndarray) -> JsonObject:
    """Type and shape of an array."""
    return {"dtype": array.dtype.name, "shape": array.shape}


def _checked(one: JsonObject) -> tuple[np.dtype, tuple[int, ...], int]:
    """Type, shape and bytes of an array that the other side describes."""
    shape: Any = one["shape"]
    if one["dtype"] not in DTYPES or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"an array of {one['dtype']!r} and shape {shape!r} is not taken in")
    dtype = np.dtype(one["dtype"])
    return dtype, tuple(shape), prod(shape) * dtype.itemsize
