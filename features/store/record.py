"""The arrays of one record: a zarr group whose attributes commit its files."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec

from features.canonical_json import JsonObject
from features.clip import Track
from features.errors import StoreError
from features.store.commit import Commit, encode_commit, make_commit
from features.store.layout import ARRAYS, METADATA, check_layouts, chunk_shape_of, files_in
from features.system.files import sha256_of, sync_tree


def read_track(folder: Path, commit: Commit, *, hash_chunks: bool = False) -> Track:
    """The track in a record's folder; parameters and errors as for `open_arrays`."""
    arrays = open_arrays(folder, commit, hash_chunks=hash_chunks)
    read = {name: np.asarray(array[...]) for name, array in arrays.items()}
    return Track(read["values"], read["time_s"], read["valid"])


def open_arrays(
    folder: Path, commit: Commit, *, hash_chunks: bool = False
) -> dict[str, zarr.Array]:
    """The arrays in a record's folder, whose files are checked before zarr opens them.

    The sha256 of each array's metadata is checked, and with `hash_chunks` that of each chunk; else
    a chunk is checked by its crc32c when it is read. Raises `StoreError`, `ValueError`, `KeyError`
    or `OSError` if the record is damaged or not one of vaflow; reading the arrays may, too.
    """
    sizes, chunks = files_in(folder), _chunks(commit.files)
    metadata = {file: digest for file, digest in commit.files.items() if file not in chunks}
    # zarr does not notice changed metadata, and reads a missing chunk as the fill value
    # (test_feature_store.py)
    _check_files(metadata, folder, sizes)
    if check_layouts(folder, sizes) != set(commit.files):
        raise StoreError("the commit names other files than such a record has")
    if hash_chunks:
        _check_files(chunks, folder, sizes)
    return {name: zarr.open_array(folder / name, mode="r") for name in ARRAYS}


def _check_files(committed: Mapping[str, str], folder: Path, sizes: Mapping[str, int]) -> None:
    for file, what in wrong_files(committed, folder, sizes):
        raise StoreError(f"{file} {what}")


def wrong_files(
    committed: Mapping[str, str], folder: Path, sizes: Mapping[str, int]
) -> Iterator[tuple[str, str]]:
    """Each file that is not what was committed, and what is wrong with it.

    `committed` is the sha256 of each file by path inside the record; `sizes` is the result of
    `files_in` for its folder.
    """
    for file, digest in committed.items():
        if file not in sizes:
            yield file, "is missing"
        elif sha256_of(folder / file) != digest:
            yield file, "was changed"


def write_staged(
    folder: Path, track: Track, source: JsonObject, provenance: JsonObject, note: str | None
) -> Commit:
    """Write and sync a record in a staging folder; returns its commit."""
    group = zarr.open_group(folder, mode="w-")
    arrays = {"values": track.values, "time_s": track.time_s, "valid": track.valid}
    for name, values in arrays.items():  # uncompressed: compression saves 7 %
        array = group.create_array(
            name,
            shape=values.shape,
            chunks=chunk_shape_of(values),
            dtype=values.dtype,
            filters=None,
            serializer=BytesCodec(),
            compressors=[Crc32cCodec()],
            fill_value=ARRAYS[name].fill_value,
            config={"write_empty_chunks": True},  # a missing chunk is always damage
        )
        if len(values):
            array[:] = values
    files = {
        path.relative_to(folder).as_posix(): sha256_of(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / METADATA
    }
    commit = make_commit(source, files, provenance, note)
    (folder / METADATA).write_bytes(encode_commit(commit))
    sync_tree(folder)
    return commit


def check_same_chunks(commit: Commit, expected: Mapping[str, str]) -> None:
    """Raise `StoreError` unless the chunks of a commit have the expected sha256.

    The metadata of the arrays may differ: another version of zarr may encode it in another way.
    """
    written, original = _chunks(commit.files), _chunks(expected)
    for file in sorted(written.keys() | original.keys()):
        if written.get(file) != original.get(file):
            raise StoreError(f"{file} is not what its record says it was; export it again")


def _chunks(files: Mapping[str, str]) -> dict[str, str]:
    return {file: digest for file, digest in files.items() if not file.endswith(METADATA)}
