"""The files that a record may have, checked before zarr opens any of them.

A store may come from an untrusted source. Names, sizes, shapes, types and codecs must be those that
vaflow writes, within limits; anything else, such as a link, is refused without reading it.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import ceil, prod
from pathlib import Path

import numpy as np

from features.canonical_json import parse_object
from features.errors import StoreError

METADATA = "zarr.json"
CHUNK_BYTES = 4 * 2**20  # a chunk is read whole, and a damaged one loses at most this much
CHECKSUM_BYTES = 4  # crc32c, after each chunk

MAX_METADATA_BYTES = 8 * 2**20
MAX_ROWS = 10_000_000  # a day at 100 rows a second is 8.64 million
MAX_WIDTH = 65_536
MAX_TRACK_BYTES = 16 * 2**30  # a day of 30 frames a second, 1024 wide, is 5.3 GB
MAX_ENTRIES = 20_000  # files and folders of a record: three times the chunks of the largest

FILE_PATTERN = r"^(values|time_s|valid)/(zarr\.json|c(/(0|[1-9][0-9]{0,8})){1,2})$"


@dataclass(frozen=True, slots=True)
class ArraySchema:
    """The properties that an array has in every record."""

    dtypes: tuple[str, ...]
    n_axes: int
    fill_value: str | bool


ARRAYS = {
    "values": ArraySchema(("float16", "float32"), 2, "NaN"),
    "time_s": ArraySchema(("float64",), 1, "NaN"),
    "valid": ArraySchema(("bool",), 1, False),
}


@dataclass(frozen=True, slots=True)
class ArrayLayout:
    """The shape of one array and of its chunks."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]

    @property
    def item_bytes(self) -> int:
        """The size of one value."""
        return np.dtype(self.dtype).itemsize

    @property
    def chunk_bytes(self) -> int:
        """The size of each chunk's file; the last chunk is padded."""
        return prod(self.chunk_shape) * self.item_bytes + CHECKSUM_BYTES

    def chunks(self) -> Iterator[str]:
        """The file of each chunk, as a path inside the record."""
        counts = (ceil(n / c) for n, c in zip(self.shape, self.chunk_shape, strict=True))
        for index in product(*(range(count) for count in counts)):
            yield "/".join([self.name, "c", *map(str, index)])


def chunk_shape_of(values: np.ndarray) -> tuple[int, ...]:
    """The shape of the chunks of an array: whole rows, of at most `CHUNK_BYTES`."""
    row_bytes = values.dtype.itemsize * prod(values.shape[1:])
    return max(1, min(len(values), CHUNK_BYTES // row_bytes)), *values.shape[1:]


def group_metadata(folder: Path | str, *, may_be_link: bool = False) -> bytes | None:
    """The bytes of a folder's zarr.json, or None if there is none; raises as `read_metadata`.

    A folder that is a link is a `StoreError`, too, unless it `may_be_link`.
    """
    if not may_be_link and os.path.islink(folder):
        raise StoreError(f"{folder} is a link; a store holds files and folders only")
    try:
        return read_metadata(f"{folder}/{METADATA}")
    except (FileNotFoundError, NotADirectoryError):
        return None


def read_metadata(path: Path | str) -> bytes:
    """The bytes of a file of metadata.

    Raises `StoreError` if it is a link, a pipe or too large, `OSError` if it cannot be opened.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if os.path.islink(path):
            raise StoreError(f"{path} is a link; a store holds files and folders only") from error
        raise
    with open(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise StoreError(f"{path} is no file; a store holds files and folders only")
        if status.st_size > MAX_METADATA_BYTES:
            raise StoreError(
                f"{path} has {status.st_size} bytes; metadata has {MAX_METADATA_BYTES} at most"
            )
        return file.read()


def files_in(folder: Path) -> dict[str, int]:
    """The size in bytes of every file below a record's folder, by path inside it.

    Raises `StoreError` if one is a link or not a regular file, or if there are too many.
    """
    sizes: dict[str, int] = {}
    pending, n_entries = [""], 0
    while pending:
        inner = pending.pop()
        with os.scandir(folder / inner) as entries:
            for entry in entries:
                name = inner + entry.name
                n_entries += 1
                if n_entries > MAX_ENTRIES:
                    raise StoreError(f"{folder} holds more than {MAX_ENTRIES} files and folders")
                if entry.is_dir(follow_symlinks=False):
                    pending.append(f"{name}/")
                elif entry.is_file(follow_symlinks=False):
                    sizes[name] = entry.stat(follow_symlinks=False).st_size
                else:
                    raise StoreError(f"{folder / name} is a link or no file; move it away")
    return sizes


def array_layout(name: str, raw: bytes) -> ArrayLayout:
    """The layout in the bytes of an array's zarr.json.

    Raises `StoreError` if it is not as vaflow writes it, or beyond the limits.
    """
    try:
        metadata = parse_object(raw)
        dtype = metadata["data_type"]
        shape = _shape(metadata["shape"])
        chunk_shape = _shape(metadata["chunk_grid"]["configuration"]["chunk_shape"])
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{name}/{METADATA} is no metadata of an array ({error!r})") from None
    if dtype not in ARRAYS[name].dtypes:
        raise StoreError(f"{name}/{METADATA} has another data_type than a record's {name}")
    layout = ArrayLayout(name, dtype, shape, chunk_shape)
    metadata.pop("dimension_names", None)  # some versions of zarr write null
    for key, allowed in _allowed_metadata(layout).items():
        if key not in metadata or metadata.pop(key) not in allowed:
            raise StoreError(f"{name}/{METADATA} has another {key} than a record's {name}")
    if metadata:
        raise StoreError(f"{name}/{METADATA} has the key {min(metadata)!r}, which no record has")
    _check_limits(layout)
    return layout


def _shape(value: object) -> tuple[int, ...]:
    """A JSON list as a shape; raises `ValueError` if it is not a list of integers."""
    if not isinstance(value, list) or any(type(n) is not int or n < 0 for n in value):
        raise ValueError(f"{value!r} is no shape")
    return tuple(value)


def _allowed_metadata(layout: ArrayLayout) -> dict[str, tuple[object, ...]]:
    """The allowed values of each key of an array's zarr.json: those that zarr 3 writes."""
    schema = ARRAYS[layout.name]
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    crc = ({"name": "crc32c"}, {"name": "crc32c", "configuration": {}})
    plain = [{"name": "bytes"}] if layout.item_bytes == 1 else []
    return {
        "zarr_format": (3,),
        "node_type": ("array",),
        "shape": (list(layout.shape),),
        "data_type": (layout.dtype,),
        "chunk_grid": (
            {"name": "regular", "configuration": {"chunk_shape": list(layout.chunk_shape)}},
        ),
        "chunk_key_encoding": ({"name": "default", "configuration": {"separator": "/"}},),
        "fill_value": (schema.fill_value,),
        "codecs": tuple([first, last] for first in [little, *plain] for last in crc),
        "attributes": ({},),
        "storage_transformers": ([],),
    }


def _check_limits(layout: ArrayLayout) -> None:
    """Raise `StoreError` if the shape or the chunks cannot be those of a record."""
    name, schema = layout.name, ARRAYS[layout.name]
    if len(layout.shape) != schema.n_axes or len(layout.chunk_shape) != schema.n_axes:
        raise StoreError(
            f"{name} has the shape {layout.shape}; it has {schema.n_axes} axes in a record"
        )
    n_rows, *widths = layout.shape
    chunk_rows, *chunk_widths = layout.chunk_shape
    n_bytes = prod(layout.shape) * layout.item_bytes
    if n_rows > MAX_ROWS or any(w > MAX_WIDTH for w in widths) or n_bytes > MAX_TRACK_BYTES:
        raise StoreError(
            f"{name} has the shape {layout.shape}; a record has at most {MAX_ROWS} rows of "
            f"{MAX_WIDTH}, and {MAX_TRACK_BYTES} bytes"
        )
    if ceil(n_rows / max(1, chunk_rows)) > MAX_ENTRIES:
        raise StoreError(f"{name} has chunks of {layout.chunk_shape}: too many for {layout.shape}")
    if (
        chunk_widths != widths
        or not 1 <= chunk_rows <= max(1, n_rows)
        or layout.chunk_bytes > CHUNK_BYTES + CHECKSUM_BYTES
    ):
        raise StoreError(
            f"{name} of the shape {layout.shape} has chunks of {layout.chunk_shape}; those of a "
            f"record are whole rows, and {CHUNK_BYTES} bytes at most"
        )


def check_layouts(folder: Path, sizes: dict[str, int]) -> set[str]:
    """Check the layout of each array and the size of each chunk; return the files but the commit.

    `sizes` is the result of `files_in`. Raises `StoreError` that names the first wrong file.
    """
    expected: set[str] = set()
    lengths = {}
    for name in ARRAYS:
        layout = array_layout(name, read_metadata(folder / name / METADATA))
        lengths[name] = layout.shape[0]
        expected.add(f"{name}/{METADATA}")
        for chunk in layout.chunks():
            if sizes.get(chunk) != layout.chunk_bytes:
                has = f"has {sizes[chunk]} bytes" if chunk in sizes else "is missing"
                raise StoreError(f"{chunk} {has}; it must have {layout.chunk_bytes}")
            expected.add(chunk)
    if len(set(lengths.values())) != 1:
        raise StoreError(f"the arrays have different lengths: {lengths}")
    return expected
