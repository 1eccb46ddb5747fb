"""The videos that a prediction is asked for: files, folders and patterns."""

import glob
import hashlib
import os
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from features.errors import InputError
from features.media.crops import is_system_file
from models.prediction.record import RECORD

VIDEO_SUFFIXES = frozenset(
    (
        *(".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts"),
        *(".m2ts", ".mts", ".vob", ".flv", ".f4v", ".wmv", ".asf", ".ogv", ".dv", ".mxf"),
    )
)
"""Of the files in a folder that are tried; a file that is given itself is always tried."""
MAX_NAME_BYTES = 120  # of an output's name: with suffixes, the 255 bytes of file systems suffice
SLUG_LENGTH = 60
ID_DIGITS = 12  # hexadecimal digits of the path's digest in an id


@dataclass(frozen=True, slots=True)
class FoundVideos:
    """The videos to predict, without duplicates, and what else was in their folders."""

    paths: tuple[Path, ...]
    """Absolute."""
    left_out: tuple[Path, ...]
    """Files of folders whose suffix is not that of a video."""


def find_videos(given: Sequence[str], output: Path) -> FoundVideos:
    """Return the videos at these files, folders (with what is below them) and patterns.

    Files below the folder `output` and below other predictions are left aside. Raises `InputError`
    if a path does not exist or if there is no video at all.
    """
    paths, left_out = dict[Path, None](), dict[Path, None]()
    for text in given:
        for path, is_chosen in _expand(text, output.resolve()):
            (paths if is_chosen else left_out)[path] = None
    if not paths:
        looked = ", ".join(given) or "nothing"
        more = f": its {len(left_out)} files have other suffixes" if left_out else ""
        raise InputError(f"there is no video in {looked}{more}; give video files or their folder")
    return FoundVideos(tuple(paths), tuple(path for path in left_out if path not in paths))


def _expand(text: str, output: Path) -> Iterator[tuple[Path, bool]]:
    """Yield the files of one argument, and whether each is tried."""
    path = Path(text)
    if path.is_dir():
        for file in _files_below(path, output):
            yield file, file.suffix.lower() in VIDEO_SUFFIXES
    elif path.exists() or path.is_symlink():
        yield path.resolve(), True
    elif matches := sorted(glob.glob(text, recursive=True)):
        for match in matches:
            for file in _files_below(Path(match), output) if Path(match).is_dir() else [match]:
                yield Path(file).resolve(), Path(file).suffix.lower() in VIDEO_SUFFIXES
    else:
        raise InputError(
            f"there is no video at {text}; give a file, a folder, or a pattern such as 'in/*.mp4'"
        )


def _files_below(folder: Path, output: Path) -> Iterator[Path]:
    """Yield the files below a folder in order, through links but into no folder twice.

    Folders of predictions, which may hold overlays, are left aside.
    """
    entered: set[Path] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        here = Path(parent).resolve()
        if here in entered or here == output or RECORD in names:
            folders.clear()
            continue
        entered.add(here)
        folders.sort()
        yield from (here / name for name in sorted(names) if not is_system_file(name))


def video_id(path: Path) -> str:
    """Return the id of a video: readable, and different for every path.

    It begins the ids of the video's clips in the store, so it must not change.
    """
    plain = unicodedata.normalize("NFKD", path.stem).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^A-Za-z0-9]+", "-", plain).strip("-")[:SLUG_LENGTH]
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:ID_DIGITS]
    return f"{slug}-{digest}" if slug else digest


def name_outputs(
    paths: Iterable[Path], known: Mapping[str, str], reserved: Iterable[str] = ()
) -> dict[Path, str]:
    """Return the name that the output files of each video begin with, unique whatever the case.

    It is the name of the file without its suffix if that is free, else with its folder or a number.
    `known` are the names that videos have already, by id; they keep them. `reserved` are not free.
    """
    names: dict[Path, str] = {}
    taken = {name.casefold() for name in (*known.values(), *reserved)}
    for path in paths:
        name = known.get(video_id(path)) or _free_name(path, taken)
        taken.add(name.casefold())
        names[path] = name
    return names


def _free_name(path: Path, taken: Collection[str]) -> str:
    stem = _file_name(path.stem)
    with_folder = _file_name(f"{path.parent.name}-{path.stem}")
    numbered = (f"{stem}-{number}" for number in range(2, len(taken) + 3))
    names = (stem, with_folder, *numbered)
    return next(name for name in names if name.casefold() not in taken)


def _file_name(text: str) -> str:
    """The text as the beginning of a file's name: printable, not hidden, and not too long."""
    visible = "".join(c if c.isprintable() and c not in '/\\:*?"<>|' else "_" for c in text)
    short = visible.encode()[:MAX_NAME_BYTES].decode(errors="ignore")
    return f"_{short}" if short.startswith((".", "-")) or not short else short
