"""A bank on disk: a file per array, opened as memory maps.

    <key>/             names what it was packed from; in <store>.work/banks/ (models/loading.py)
        bank.json      clips, their numbers of rows, size and time of every file, its own digest
        visual.npy     (N, Dv) float16; so the others, by the names of `PackedFeatures`

It comes to be in staging, is synced, and renamed into place. Opening it holds `bank.json` to its
digest, and every file to its form, its size and the time it was written at: a file that was cut
short, or written to by whatever program, is noticed. The arrays are not read for it, so a bit that
the disk itself turns over is not: the store's checksums were held when it was packed.
"""

import hashlib
import json
import logging
import mmap
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from features.canonical_json import JsonObject, canonical
from features.system.files import errors_name, sync_folder, sync_tree
from models.data.aligned_clip import AlignedClip
from models.data.packed import PackedFeatures

HEADER = "bank.json"
VERSION = 1  # raised where the same input gives other rows, or files of another form
DTYPES = {
    "time_s": "<f8",
    "visual": "<f2",
    "visual_valid": "|b1",
    "audio": "<f2",
    "audio_valid": "|b1",
    "va": "<f8",
    "va_valid": "|b1",
}
NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)  # Linux's; Python names it from 3.13 on

log = logging.getLogger(__name__)


def pack(folder: Path, staging: Path, key: str, clips: Iterable[AlignedClip]) -> None:
    """Put the rows of the clips into `folder`, clip by clip: memory holds one at a time.

    `staging` is on the same disk. Whoever calls holds the bank's lock, so what lies there of this
    bank was left by one that was killed, and goes. An `OSError` names the folder.
    """
    for left in staging.glob(f"bank.{folder.name}.*"):
        shutil.rmtree(left)
    staged = staging / f"bank.{folder.name}.{uuid.uuid4().hex}"
    with errors_name(folder):
        staged.mkdir(parents=True)
    try:
        n_rows = _written(staged, folder, clips)
        with errors_name(folder):
            (staged / HEADER).write_bytes(_header(staged, key, n_rows))
            sync_tree(staged)
            folder.parent.mkdir(parents=True, exist_ok=True)
            if folder.exists():  # a folder cannot be renamed over one that is not empty
                log.warning("the bank %s was damaged; it is packed anew", folder)
                folder.rename(staged.with_name(staged.name + ".old"))
            staged.rename(folder)  # what commits
            sync_folder(folder.parent)
    finally:
        for path in (staged, staged.with_name(staged.name + ".old")):
            shutil.rmtree(path, ignore_errors=True)


def _written(staged: Path, folder: Path, clips: Iterable[AlignedClip]) -> dict[str, int]:
    """Write the arrays; returns the number of rows of each clip."""
    n_rows: dict[str, int] = {}
    shapes: dict[str, tuple[int, ...]] = {}  # of a row
    with errors_name(folder), ExitStack() as stack:
        files = {
            name: stack.enter_context((staged / f"{name}.npy").open("xb", buffering=1 << 20))
            for name in DTYPES
        }
        for clip in clips:
            for name, part in clip.arrays().items():
                if name not in shapes:
                    shapes[name] = part.shape[1:]
                    _begin(files[name], name, (0, *shapes[name]))
                files[name].write(np.ascontiguousarray(part, DTYPES[name]).data)
            n_rows[clip.clip_id] = len(clip.visual.time_s)
        for name, file in files.items():  # the head has room for any number of rows
            file.seek(0)
            _begin(file, name, (sum(n_rows.values()), *shapes[name]))
    return n_rows


def _begin(file: BinaryIO, name: str, shape: tuple[int, ...]) -> None:
    """Write the head of a .npy file, so that `np.load` reads it, too."""
    form = {"descr": DTYPES[name], "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, form)


def _header(staged: Path, key: str, n_rows: Mapping[str, int]) -> bytes:
    """`bank.json` of the files that were written."""
    said: JsonObject = {
        "version": VERSION,
        "key": key,
        "clips": list(n_rows),
        "n_rows": list(n_rows.values()),
        "files": {name: _stamp(staged / f"{name}.npy") for name in DTYPES},
    }
    return canonical(said | {"digest": _digest(said)})


def _digest(said: JsonObject) -> str:
    return hashlib.sha256(canonical(said)).hexdigest()


def _stamp(path: Path) -> list[int]:
    """By what one sees that a file is as it was: its size in bytes, and when it was written."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]


def open_packed(folder: Path, key: str) -> PackedFeatures | None:
    """The bank in the folder; None where there is none, or it is not as it was packed.

    Nothing is read but `bank.json`: the arrays are the page cache's, shared by all processes.
    """
    try:
        raw = (folder / HEADER).read_bytes()
    except FileNotFoundError:
        return None
    try:
        bank = _opened(folder, raw, key)
    except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
        log.info("the bank %s is damaged: %s", folder, error)
        return None
    with suppress(OSError):  # a disk that is read-only: nobody removes a bank from it either
        os.utime(folder / HEADER)  # `vaflow gc` goes by when it was opened last
    return bank


def _opened(folder: Path, raw: bytes, key: str) -> PackedFeatures:
    """The bank; `ValueError` and its kin where a file is not as it was written."""
    said = dict(json.loads(raw))
    if said.pop("digest") != _digest(said) or said["key"] != key:
        raise ValueError(f"{HEADER} was changed")
    arrays: dict[str, np.ndarray] = {}
    for name, stamp in said["files"].items():
        path = folder / f"{name}.npy"
        if _stamp(path) != stamp:
            raise ValueError(f"{path.name} was changed")
        arrays[name] = _mapped(path)
        if arrays[name].dtype != DTYPES[name] or len(arrays[name]) != sum(said["n_rows"]):
            raise ValueError(f"{path.name} has another form")
    return _packed_from(said["clips"], said["n_rows"], arrays)


def _mapped(path: Path) -> np.ndarray:
    """The array in a .npy file as a memory map; what is written to it stays in this process.

    numpy's own maps are either not writable, which torch warns of, or must fit into memory.
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


def pack_in_memory(clips: Iterable[AlignedClip]) -> PackedFeatures:
    """The same bank where it cannot be kept on a disk."""
    parts: dict[str, list[np.ndarray]] = {name: [] for name in DTYPES}
    n_rows: dict[str, int] = {}
    for clip in clips:
        n_rows[clip.clip_id] = len(clip.visual.time_s)
        for name, part in clip.arrays().items():
            parts[name].append(part)
    arrays = {name: np.concatenate(parts.pop(name)) for name in DTYPES}  # one by one: half the room
    return _packed_from(list(n_rows), list(n_rows.values()), arrays)


def _packed_from(
    clip_ids: Sequence[str], n_rows: Sequence[int], arrays: Mapping[str, np.ndarray]
) -> PackedFeatures:
    """The bank of these arrays, without a copy."""
    offsets = np.cumsum([0, *n_rows], dtype=np.int64)
    tensors = {name: torch.from_numpy(arrays[name]) for name in DTYPES if name != "time_s"}
    return PackedFeatures(tuple(clip_ids), offsets, arrays["time_s"], **tensors, streaming=None)
