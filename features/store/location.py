"""Where a store is: in a folder of this machine, or on an object store."""

from pathlib import Path

from features.errors import InputError
from features.store.backend import StoreBackend
from features.store.local import LocalBackend
from features.store.s3 import SCHEME, S3Backend


def backend_at(store: str | Path) -> StoreBackend:
    """The backend for a path or URL; raises `InputError` if it is a URL of another kind."""
    url = str(store)
    if url.startswith(SCHEME):
        return S3Backend(url.rstrip("/"))
    if "://" in url:
        raise InputError(
            f"store = {url!r}: only folders of this machine and {SCHEME}BUCKET/PREFIX are supported"
        )
    return LocalBackend(Path(store))


def absolute_path(store: str) -> str:
    """The path or URL of a store, independent of the current folder."""
    return store if "://" in store else str(Path(store).resolve())
