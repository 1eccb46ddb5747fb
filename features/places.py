"""The place that a user names with `store=`."""

from pathlib import Path

from features.errors import InputError
from features.place import Folder, Place


def place_at(store: str | Path) -> Place:
    """The place that a path names; `InputError` where it is a URL."""
    if "://" in str(store):
        raise InputError(f"store = {str(store)!r}: only folders of this machine are supported")
    return Folder(Path(store))


def absolute(store: str) -> str:
    """The same store, as any folder and any later process may name it."""
    return str(Path(store).resolve())
