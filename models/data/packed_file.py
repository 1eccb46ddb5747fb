"""Packed features on disk: one file per array, opened as memory maps.

    <key>/             in <store>.work/banks/; models/data/packed_cache.py computes the key
        bank.json      the clips with their numbers of rows and frames and the digests of their
                       sources; the streams, unless they are visual and audio; size, time and
                       checksum of each file; its own digest
        <stream>.npy   (N, D) float16, and <stream>_valid.npy; the other arrays have the names in
                       `PackedFeatures`

A folder is written in staging, synced and renamed into place. Opening it checks the digest of
`bank.json` and the format, size and modification time of each file, which detects truncated and
modified files. The arrays are read only if a time differs, as in a copy: if their checksums are
right, the new times are written to `bank.json`. So a flipped bit on the disk is not detected; the
store's checksums were verified when the file was packed.
"""

import json
import logging
import mmap
import os
import shutil
import uuid
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

import numpy as np
import torch

from features.canonical_json import JsonObject, canonical, canonical_sha256
from features.system.files import errors_name, sync_folder, sync_tree, write_atomic
from models.data.alignment import AlignedClip
from models.data.batch import Modality
from models.data.packed import Bank, PackedFeatures, PackedStream

HEADER = "bank.json"
VERSION = 2  # raise it when the rows for the same input or the format of the files change
Modalities = Mapping[str, Modality]
"""The modality of each stream, in the order of the streams."""
WITHOUT_STREAMS: Modalities = MappingProxyType({"visual": "visual", "audio": "audio"})
"""The streams of a file that does not list them."""
NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)  # value on Linux; Python defines it since 3.13

log = logging.getLogger(__name__)


def dtypes(streams: Iterable[str]) -> dict[str, str]:
    """Return the type of each array."""
    found = {"time_s": "<f8"}
    for name in streams:
        found |= {name: "<f2", f"{name}_valid": "|b1"}
    return found | {"va": "<f8", "va_valid": "|b1"}


PackedFile = tuple[PackedFeatures, dict[str, int]]
"""The features, and the frames of each clip before padding and trimming."""


def pack(
    folder: Path,
    staging: Path,
    sources: Mapping[str, str],
    clips: Iterable[AlignedClip],
    streams: Modalities,
) -> None:
    """Write the rows of the clips to `folder`, with one clip in memory at a time.

    `sources` holds the digest of each clip's sources. `staging` must be on the same disk as
    `folder`. The caller must hold the folder's lock; leftovers of killed processes in staging are
    removed. An `OSError` names the folder.
    """
    for leftover in staging.glob(f"bank.{folder.name}.*"):
        shutil.rmtree(leftover)
    staged = staging / f"bank.{folder.name}.{uuid.uuid4().hex}"
    replaced = staged.with_name(staged.name + ".old")
    with errors_name(folder):
        staged.mkdir(parents=True)
    try:
        lengths, checksums = _write_arrays(staged, folder, clips, dtypes(streams))
        with errors_name(folder):
            header = _header(staged, sources, lengths, checksums, streams)
            (staged / HEADER).write_bytes(header)
            sync_tree(staged)
            folder.parent.mkdir(parents=True, exist_ok=True)
            if folder.exists():  # a folder cannot be renamed over one that is not empty
                log.warning(
                    "the packed features %s are damaged, or a copy of what an earlier version "
                    "packed without checksums; they are packed again",
                    folder,
                )
                folder.rename(replaced)
            staged.rename(folder)  # the commit
            sync_folder(folder.parent)
    finally:
        for path in (staged, replaced):
            shutil.rmtree(path, ignore_errors=True)


def _write_arrays(
    staged: Path, folder: Path, clips: Iterable[AlignedClip], types: Mapping[str, str]
) -> tuple[dict[str, tuple[int, int]], dict[str, int]]:
    """Write the arrays.

    Returns the number of rows and of frames of each clip, and the CRC-32 of each array's rows.
    """
    lengths: dict[str, tuple[int, int]] = {}
    checksums = dict.fromkeys(types, 0)
    shapes: dict[str, tuple[int, ...]] = {}  # of a row
    with errors_name(folder), ExitStack() as stack:
        files = {
            name: stack.enter_context((staged / f"{name}.npy").open("xb", buffering=1 << 20))
            for name in types
        }
        for clip in clips:
            for name, part in clip.arrays.items():
                if name not in shapes:
                    shapes[name] = part.shape[1:]
                    _write_npy_header(files[name], types[name], (0, *shapes[name]))
                rows = np.ascontiguousarray(part, types[name])
                files[name].write(rows.data)
                checksums[name] = zlib.crc32(rows.data, checksums[name])
            lengths[clip.clip_id] = clip.n_rows, clip.n_frames
        n_rows = sum(n for n, _ in lengths.values())
        for name, file in files.items():  # the header has room for any number of rows
            file.seek(0)
            _write_npy_header(file, types[name], (n_rows, *shapes[name]))
    return lengths, checksums


def _write_npy_header(file: BinaryIO, dtype: str, shape: tuple[int, ...]) -> None:
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _header(
    staged: Path,
    sources: Mapping[str, str],
    lengths: Mapping[str, tuple[int, int]],
    checksums: Mapping[str, int],
    streams: Modalities,
) -> bytes:
    fields: JsonObject = {
        "version": VERSION,
        "clips": list(lengths),
        "sources": [sources[clip_id] for clip_id in lengths],
        "n_rows": [n_rows for n_rows, _ in lengths.values()],
        "n_frames": [n_frames for _, n_frames in lengths.values()],
        "files": {name: _stamp(staged / f"{name}.npy") for name in dtypes(streams)},
        "crc32": dict(checksums),
    }
    if list(streams.items()) != list(WITHOUT_STREAMS.items()):
        fields["streams"] = [[name, modality] for name, modality in streams.items()]
    return _with_digest(fields)


def _with_digest(fields: JsonObject) -> bytes:
    return canonical(fields | {"digest": canonical_sha256(fields)})


def _stamp(path: Path) -> list[int]:
    """Return the size in bytes and the modification time, by which a change is detected."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def open_packed(folder: Path, sources: Mapping[str, str], streams: Modalities) -> PackedFile | None:
    """Return the packed features in a folder.

    Returns None if there are none, if they are damaged, if they are of other streams, or if they
    lack a clip of `sources` with this digest. Only `bank.json` is read unless the folder is a copy;
    the arrays are memory maps, which processes share.
    """
    try:
        raw = (folder / HEADER).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fields = dict(json.loads(raw))
        if fields.pop("digest") != canonical_sha256(fields) or fields["version"] != VERSION:
            raise ValueError(f"{HEADER} was changed")
        digests = dict(zip(fields["clips"], fields["sources"], strict=True))
        held = [tuple(each) for each in fields.get("streams", WITHOUT_STREAMS.items())]
        if held != list(streams.items()) or not sources.items() <= digests.items():
            return None
        packed = _open_arrays(folder, fields, streams)
    except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
        log.info("the packed features %s are damaged: %s", folder, error)
        return None
    with suppress(OSError):  # a folder on a read-only disk is never removed
        os.utime(folder / HEADER)  # marks the last use for `vaflow gc`
    return packed


def _open_arrays(folder: Path, fields: JsonObject, streams: Modalities) -> PackedFile:
    """Open the arrays as memory maps; raises `ValueError` if a file has changed."""
    arrays, types = dict[str, np.ndarray](), dtypes(streams)
    stamps = {name: _stamp(folder / f"{name}.npy") for name in fields["files"]}
    for name, stamp in fields["files"].items():
        path = folder / f"{name}.npy"
        if stamps[name][0] != stamp[0]:
            raise ValueError(f"{path.name} has another size")
        arrays[name] = map_npy(path)
        if arrays[name].dtype != types[name] or len(arrays[name]) != sum(fields["n_rows"]):
            raise ValueError(f"{path.name} has another format")
        if stamps[name] != stamp and zlib.crc32(arrays[name].data) != fields["crc32"][name]:
            raise ValueError(f"{path.name} was changed")
    if stamps != fields["files"]:
        log.info("the packed features %s were copied, and their checksums are right", folder)
        with suppress(OSError):  # a disk that is read-only: they are read again the next time
            write_atomic(folder / HEADER, _with_digest(fields | {"files": stamps}))
    bank = Bank(folder, dict(zip(fields["clips"], fields["sources"], strict=True)))
    features = replace(_packed_from(fields["clips"], fields["n_rows"], arrays, streams), bank=bank)
    return features, dict(zip(fields["clips"], fields["n_frames"], strict=True))


def map_npy(path: Path) -> np.ndarray:
    """Return the array in a .npy file as a private memory map: writes do not reach the file.

    numpy's own maps are either read-only, which torch warns about, or must fit into memory.
    """
    with path.open("rb") as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError(f"{path.name} has another version")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        start = file.tell()
        pages = mmap.mmap(
            file.fileno(),
            0,
            flags=mmap.MAP_PRIVATE | NO_RESERVE,
            prot=mmap.PROT_READ | mmap.PROT_WRITE,
        )
    return np.frombuffer(pages, dtype, offset=start).reshape(shape)


def pack_in_memory(clips: Iterable[AlignedClip], streams: Modalities) -> PackedFeatures:
    """Return the same rows in memory, for a store whose work folder is not writable."""
    parts: dict[str, list[np.ndarray]] = {name: [] for name in dtypes(streams)}
    n_rows: dict[str, int] = {}
    for clip in clips:
        n_rows[clip.clip_id] = clip.n_rows
        for name, part in clip.arrays.items():
            parts[name].append(part)
    arrays = {name: np.concatenate(parts.pop(name)) for name in list(parts)}  # halves the memory
    return _packed_from(list(n_rows), list(n_rows.values()), arrays, streams)


def _packed_from(
    clip_ids: Sequence[str],
    n_rows: Sequence[int],
    arrays: Mapping[str, np.ndarray],
    streams: Modalities,
) -> PackedFeatures:
    """Return packed features that share the memory of the arrays."""

    def tensor(name: str) -> torch.Tensor:
        return torch.from_numpy(arrays[name])

    return PackedFeatures(
        tuple(clip_ids),
        np.cumsum([0, *n_rows], dtype=np.int64),
        arrays["time_s"],
        {
            name: PackedStream(modality, tensor(name), tensor(f"{name}_valid"))
            for name, modality in streams.items()
        },
        va=tensor("va"),
        va_valid=tensor("va_valid"),
    )
