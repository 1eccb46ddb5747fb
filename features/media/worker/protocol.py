"""Messages between a process and its decoding process: JSON and arrays, never pickles."""

import json
import mmap
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from math import prod
from multiprocessing.connection import Connection
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np

from features.canonical_json import JsonObject

N_SLOTS = 3  # one is written, one waits, one is read
MAX_JSON_BYTES = 1 << 20
NO_ARRAYS: Mapping[str, np.ndarray] = MappingProxyType({})
DTYPES = ("uint8", "int64", "float32", "float64")  # accepted from the other side

RecordT = TypeVar("RecordT")


class SharedBuffer:
    """Slots of memory shared by two processes.

    The memory is an anonymous file: nothing is left of it, however the processes end.
    """

    def __init__(self, fd: int, slot_bytes: int) -> None:
        self.slot_bytes = slot_bytes
        self._memory = mmap.mmap(fd, N_SLOTS * slot_bytes)

    def put(self, slot: int, arrays: Sequence[np.ndarray]) -> list[JsonObject]:
        """Copy arrays into a slot, one after another; return the headers that `get` needs."""
        offset = slot * self.slot_bytes
        for array in arrays:
            np.ndarray(array.shape, array.dtype, self._memory, offset)[...] = array
            offset += array.nbytes
        return [array_header(array) for array in arrays]

    def get(self, slot: int, headers: Sequence[JsonObject]) -> list[np.ndarray]:
        """The arrays of a slot, without a copy; `ValueError` if they are larger than the slot."""
        if not 0 <= slot < N_SLOTS:
            raise ValueError(f"there is no slot {slot}; there are {N_SLOTS}")
        offset, arrays = slot * self.slot_bytes, []
        for header in headers:
            dtype, shape, n_bytes = _checked(header)
            if offset + n_bytes > (slot + 1) * self.slot_bytes:
                raise ValueError(
                    f"the arrays are larger than their slot of {self.slot_bytes} bytes"
                )
            arrays.append(np.ndarray(shape, dtype, self._memory, offset))
            offset += n_bytes
        return arrays


def send(
    connection: Connection, message: JsonObject, arrays: Mapping[str, np.ndarray] = NO_ARRAYS
) -> None:
    """Send a message of JSON values and paths, and arrays that `receive_arrays` returns."""
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    if contiguous:
        headers = {name: array_header(array) for name, array in contiguous.items()}
        message = message | {"arrays": headers}
    connection.send_bytes(json.dumps(message, default=os.fspath).encode())
    for array in contiguous.values():
        connection.send_bytes(array.tobytes())


def receive(connection: Connection) -> JsonObject:
    """Wait for a message.

    Raises `EOFError` if the other side has ended, `ValueError` if it sent no JSON object.
    """
    message = json.loads(connection.recv_bytes(MAX_JSON_BYTES))
    if not isinstance(message, dict):
        raise ValueError(f"a message is a JSON object, not a {type(message).__name__}")
    return message


def send_record(connection: Connection, record: Any) -> None:
    """Send a dataclass of JSON values and arrays, as a message of kind "record"."""
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
    plain = {name: value for name, value in values.items() if name not in arrays}
    send(connection, {"kind": "record", "type": type(record).__name__, "value": plain}, arrays)


def receive_record(
    connection: Connection, message: JsonObject, record: type[RecordT], max_bytes: int
) -> RecordT:
    """The dataclass that a message announces; `ValueError` if an array exceeds `max_bytes`."""
    return record(**message["value"], **receive_arrays(connection, message, max_bytes))


def receive_arrays(
    connection: Connection, message: JsonObject, max_bytes: int | None = None
) -> dict[str, np.ndarray]:
    """The arrays that a message announces; `ValueError` if one exceeds `max_bytes`."""
    arrays: dict[str, np.ndarray] = {}
    for name, header in message.get("arrays", {}).items():
        dtype, shape, n_bytes = _checked(header)
        if max_bytes is not None and n_bytes > max_bytes:
            raise ValueError(
                f"the array {name!r} has {n_bytes} bytes; at most {max_bytes} are read"
            )
        arrays[name] = np.frombuffer(connection.recv_bytes(n_bytes), dtype).reshape(shape)
    return arrays


def array_header(array: np.ndarray) -> JsonObject:
    """Type and shape of an array."""
    return {"dtype": array.dtype.name, "shape": array.shape}


def _checked(header: JsonObject) -> tuple[np.dtype, tuple[int, ...], int]:
    """Type, shape and size in bytes of an array that the other side announces."""
    shape: Any = header["shape"]
    if header["dtype"] not in DTYPES or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"an array of {header['dtype']!r} and shape {shape!r} is not accepted")
    dtype = np.dtype(header["dtype"])
    return dtype, tuple(shape), prod(shape) * dtype.itemsize
