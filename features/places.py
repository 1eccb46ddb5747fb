"""The place that a user names with `store=`: a folder, or a prefix on an object store."""

from pathlib import Path

from features.bucket import SCHEME, bucket_at
from features.errors import InputError
from features.place import Folder, Place


def place_at(store: str | Path) -> Place:
    """The place that a path or URL names; `InputError` where it is a URL of another kind."""
    said = str(store)
    if said.startswith(SCHEME):
        return bucket_at(said)
    if "://" in said:
        raise InputError(
            f"store = {said!r}: only folders of this machine and {SCHEME}BUCKET/PREFIX are "
            "supported"
        )
    return Folder(Path(store))


def absolute(store: str) -> str:
    """The same store, as any folder and any later process may name it."""
    return store if "://" in store else str(Path(store).resolve())
