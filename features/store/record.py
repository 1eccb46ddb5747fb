"""One clip's record in a feature store: a zarr group whose attributes commit its files."""

from pathlib import Path

import numpy as np
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec

from features.canonical_json import JsonObject
from features.clip import Track
from features.errors import StoreError
from features.store.commit import Commit, encode_commit, make_commit
from features.store.layout import ARRAYS, CHUNK_BYTES, METADATA, check_layouts, files_in
from features.system.files import sha256_of, sync_tree


def read_track(folder: Path, commit: Commit) -> Track:
    """The track in a record's folder; raises as `open_arrays` where it is damaged."""
    arrays = {name: np.asarray(a[...]) for name, a in open_arrays(folder, commit).items()}
    return Track(arrays["values"], arrays["time_s"], arrays["valid"])


def open_arrays(folder: Path, commit: Commit) -> dict[str, zarr.Array]:
    """The arrays in a record's folder, which is held to its form before zarr opens it.

    `StoreError`, `ValueError`, `KeyError` or `OSError` where it is damaged or none of ours; so
    may whoever reads them find a chunk.
    """
    sizes = files_in(folder)
    for name, digest in commit.files.items():
        # zarr reads a missing chunk as fill and overlooks a flipped bit of metadata
        if name not in sizes:
            raise ValueError(f"{name} is missing")
        if name.endswith(METADATA) and sha256_of(folder / name) != digest:
            raise ValueError(f"{name} was changed")
    if check_layouts(folder, sizes) != set(commit.files):
        raise ValueError("the commit names other files than such a record has")
    return {name: zarr.open_array(folder / name, mode="r") for name in ARRAYS}


def write_staged(
    folder: Path,
    track: Track,
    source: JsonObject,
    provenance: JsonObject,
    note: str | None,
) -> Commit:
    """Write a whole record at a place where nobody looks, and have the disk keep it."""
    group = zarr.open_group(folder, mode="w-")
    _add_array(group, "values", track.values, fill=float("nan"))
    _add_array(group, "time_s", track.time_s, fill=float("nan"))
    _add_array(group, "valid", track.valid, fill=False)
    files = {
        path.relative_to(folder).as_posix(): sha256_of(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / METADATA
    }
    commit = make_commit(source, files, provenance, note)
    (folder / METADATA).write_bytes(encode_commit(commit))
    sync_tree(folder)
    return commit


def check_chunks(commit: Commit, expected: dict[str, str]) -> None:
    """`StoreError` where the chunks are not these; how zarr spells metadata may be another."""
    if other := sorted(
        name
        for name in commit.files.keys() | expected.keys()
        if not name.endswith(METADATA) and commit.files.get(name) != expected.get(name)
    ):
        raise StoreError(f"{other[0]} is not what its record says it was; get it once more")


def _add_array(group: zarr.Group, name: str, values: np.ndarray, *, fill: float | bool) -> None:
    """Write an array uncompressed (it would gain 7 %) with a checksum on every chunk."""
    row_bytes = values.dtype.itemsize * int(np.prod(values.shape[1:]))
    rows = max(1, min(len(values), CHUNK_BYTES // row_bytes))
    array = group.create_array(
        name,
        shape=values.shape,
        chunks=(rows, *values.shape[1:]),
        dtype=values.dtype,
        filters=None,
        serializer=BytesCodec(),
        compressors=[Crc32cCodec()],
        fill_value=fill,
        config={"write_empty_chunks": True},  # else zeros are not stored, and look like a loss
    )
    if len(values):
        array[:] = values
