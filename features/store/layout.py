"""What a record may look like on a disk: held before zarr opens anything of it.

A store may come from anywhere. Names, sizes, shapes, types and codecs are those that this vaflow
writes, within limits; whatever else lies there is refused unread, links above all.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import ceil, prod
from pathlib import Path

from features.canonical_json import parse_object
from features.errors import StoreError

METADATA = "zarr.json"
CHUNK_BYTES = 4 * 2**20  # a chunk is read whole, and a fault in it costs at most this much
CHECKSUM_BYTES = 4  # crc32c, behind each chunk

MAX_METADATA_BYTES = 8 * 2**20
MAX_ROWS = 10_000_000  # a day at 100 rows a second is 8.64 million
MAX_WIDTH = 65_536
MAX_TRACK_BYTES = 16 * 2**30  # a day of 30 frames a second, 1024 wide, is 5.3 GB
MAX_ENTRIES = 20_000  # of files and folders of a record: the chunks of the largest, thrice over

FILE_PATTERN = r"^(values|time_s|valid)/(zarr\.json|c(/(0|[1-9][0-9]{0,8})){1,2})$"


@dataclass(frozen=True, slots=True)
class ArraySchema:
    """What one array of a record is, whatever its length."""

    dtype: str
    item_bytes: int
    n_axes: int
    fill_value: str | bool


ARRAYS = {
    "values": ArraySchema("float16", 2, 2, "NaN"),
    "time_s": ArraySchema("float64", 8, 1, "NaN"),
    "valid": ArraySchema("bool", 1, 1, False),
}


@dataclass(frozen=True, slots=True)
class ArrayLayout:
    """Shape and chunks of one array."""

    name: str
    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]

    @property
    def chunk_bytes(self) -> int:
        """The size of each chunk's file: the last one is filled up."""
        return prod(self.chunk_shape) * ARRAYS[self.name].item_bytes + CHECKSUM_BYTES

    def chunks(self) -> Iterator[str]:
        """The name of each chunk's file, by path inside the record."""
        counts = (ceil(n / c) for n, c in zip(self.shape, self.chunk_shape, strict=True))
        for place in product(*(range(count) for count in counts)):
            yield "/".join([self.name, "c", *map(str, place)])


def read_metadata(path: Path | str) -> bytes:
    """The bytes of a file of metadata; a link, a pipe or a giant is a `StoreError`, unread.

    `OSError` where it cannot be opened, `FileNotFoundError` where there is none.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if os.path.islink(path):
            raise StoreError(f"{path} is a link; a store holds files and folders only") from error
        raise
    with open(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise StoreError(f"{path} is no file; a store holds files and folders only")
        if found.st_size > MAX_METADATA_BYTES:
            raise StoreError(
                f"{path} has {found.st_size} bytes; metadata has {MAX_METADATA_BYTES} at most"
            )
        return file.read()


def files_in(folder: Path) -> dict[str, int]:
    """The size of every file below a record's folder, by path inside it.

    `StoreError` where one is a link or no file, or where there are too many.
    """
    found: dict[str, int] = {}
    open_folders, n_entries = [""], 0
    while open_folders:
        inner = open_folders.pop()
        with os.scandir(folder / inner) as entries:
            for entry in entries:
                name = inner + entry.name
                n_entries += 1
                if n_entries > MAX_ENTRIES:
                    raise StoreError(f"{folder} holds more than {MAX_ENTRIES} files and folders")
                if entry.is_dir(follow_symlinks=False):
                    open_folders.append(f"{name}/")
                elif entry.is_file(follow_symlinks=False):
                    found[name] = entry.stat(follow_symlinks=False).st_size
                else:
                    raise StoreError(f"{folder / name} is a link or no file; move it away")
    return found


def array_layout(name: str, raw: bytes) -> ArrayLayout:
    """Shape and chunks in an array's zarr.json; `StoreError` where it is not as we write it."""
    try:
        found = parse_object(raw)
        shape = _sizes(found["shape"])
        chunk_shape = _sizes(found["chunk_grid"]["configuration"]["chunk_shape"])
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{name}/{METADATA} is no metadata of an array ({error!r})") from None
    form = ArrayLayout(name, shape, chunk_shape)
    found.pop("dimension_names", None)  # some versions of zarr say that there are none
    for key, wanted in _as_written(form).items():
        if key not in found or found.pop(key) not in wanted:
            raise StoreError(f"{name}/{METADATA} has another {key} than a record's {name}")
    if found:
        raise StoreError(f"{name}/{METADATA} has the key {min(found)!r}, which no record has")
    _check_limits(form)
    return form


def _sizes(value: object) -> tuple[int, ...]:
    """A shape; `ValueError` where it is none. True is no length, though Python counts it as 1."""
    if not isinstance(value, list) or any(type(n) is not int or n < 0 for n in value):
        raise ValueError(f"{value!r} is no shape")
    return tuple(value)


def _as_written(form: ArrayLayout) -> dict[str, tuple[object, ...]]:
    """What each key of an array's zarr.json may say: what zarr 3 writes for us."""
    kind = ARRAYS[form.name]
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    crc = ({"name": "crc32c"}, {"name": "crc32c", "configuration": {}})
    plain = [{"name": "bytes"}] if kind.item_bytes == 1 else []
    return {
        "zarr_format": (3,),
        "node_type": ("array",),
        "shape": (list(form.shape),),
        "data_type": (kind.dtype,),
        "chunk_grid": (
            {"name": "regular", "configuration": {"chunk_shape": list(form.chunk_shape)}},
        ),
        "chunk_key_encoding": ({"name": "default", "configuration": {"separator": "/"}},),
        "fill_value": (kind.fill_value,),
        "codecs": tuple([first, last] for first in [little, *plain] for last in crc),
        "attributes": ({},),
        "storage_transformers": ([],),
    }


def _check_limits(form: ArrayLayout) -> None:
    """`StoreError` where shape or chunks are of another kind, or larger, than any record's."""
    n_axes = ARRAYS[form.name].n_axes
    if len(form.shape) != n_axes or len(form.chunk_shape) != n_axes:
        raise StoreError(
            f"{form.name} has the shape {form.shape}; it has {n_axes} axes in a record"
        )
    n_rows, *widths = form.shape
    rows, *parts = form.chunk_shape
    n_bytes = prod(form.shape) * ARRAYS[form.name].item_bytes
    if n_rows > MAX_ROWS or any(w > MAX_WIDTH for w in widths) or n_bytes > MAX_TRACK_BYTES:
        raise StoreError(
            f"{form.name} has the shape {form.shape}; a record has at most {MAX_ROWS} rows of "
            f"{MAX_WIDTH}, and {MAX_TRACK_BYTES} bytes"
        )
    if ceil(n_rows / max(1, rows)) > MAX_ENTRIES:
        raise StoreError(f"{form.name} has chunks of {form.chunk_shape}: too many for {form.shape}")
    if parts != widths or not 1 <= rows <= max(1, n_rows) or form.chunk_bytes > CHUNK_BYTES + 4:
        raise StoreError(
            f"{form.name} of the shape {form.shape} has chunks of {form.chunk_shape}; a record's "
            f"are whole rows, and {CHUNK_BYTES} bytes at most"
        )


def check_layouts(folder: Path, sizes: dict[str, int]) -> set[str]:
    """Hold the arrays of a record to their form, and each chunk's file to its size.

    `sizes` is what `files_in` found. Returns the files that such a record has, but for its commit;
    `StoreError` names the first that is not as it should be.
    """
    wanted: set[str] = set()
    lengths = {}
    for name in ARRAYS:
        form = array_layout(name, read_metadata(folder / name / METADATA))
        lengths[name] = form.shape[0]
        wanted.add(f"{name}/{METADATA}")
        for chunk in form.chunks():
            if sizes.get(chunk) != form.chunk_bytes:
                has = f"has {sizes[chunk]} bytes" if chunk in sizes else "is missing"
                raise StoreError(f"{chunk} {has}; it must have {form.chunk_bytes}")
            wanted.add(chunk)
    if len(set(lengths.values())) != 1:
        raise StoreError(f"the arrays have different lengths: {lengths}")
    return wanted
