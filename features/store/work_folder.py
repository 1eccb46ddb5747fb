"""Paths in the work folder of a store: `<store>.work`, beside the store, on this machine.

locks/              one file per record that is being written, and a few others
staging/            records and banks that are not published yet
quarantine/<set>/   clips that could not be decoded (features/freshness/quarantine.py)
throughput/         how fast each feature set was extracted, by device
banks/              memory maps of packed records (models/data/packed_cache.py): a cache
removed/            what `vaflow verify --repair` moved out of records
digests.sqlite      digests of media files (features/freshness/digest_cache.py): a cache
"""

from pathlib import Path


def locks_folder(work: Path) -> Path:
    """The folder of all locks."""
    return work / "locks"


def staging_folder(work: Path) -> Path:
    """The folder of what is not published yet."""
    return work / "staging"


def banks_folder(work: Path) -> Path:
    """The folder of the banks, each a folder."""
    return work / "banks"


def removed_folder(work: Path) -> Path:
    """The folder of what repairs moved out."""
    return work / "removed"


def quarantine_folder(work: Path, set_name: str = "") -> Path:
    """The folder of the quarantine, or of one feature set in it."""
    return work / "quarantine" / set_name


def quarantine_file(work: Path, set_name: str, clip_id: str) -> str:
    """The quarantine entry of a clip; a string, since a million of them are tried in a plan."""
    return f"{work}/quarantine/{set_name}/{clip_id}.json"


def digest_cache_file(work: Path) -> Path:
    """The database of media digests."""
    return work / "digests.sqlite"


def record_lock(work: Path, set_name: str, clip_id: str) -> Path:
    """The lock under which a record is extracted and written."""
    return locks_folder(work) / f"{set_name}.{clip_id}"


def bank_lock(work: Path, key: str) -> Path:
    """The lock under which a bank is packed."""
    return locks_folder(work) / f"bank.{key}"
