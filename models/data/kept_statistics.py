"""Statistics of training rows that are kept beside their packed features."""

import json
import logging
from pathlib import Path

import torch

from features.canonical_json import canonical, canonical_sha256
from features.system.files import write_atomic
from models.data.packed import PackedFeatures
from models.data.statistics import Statistics, statistics

VERSION = 1  # raise it when `statistics` gives other numbers for the same rows
KEY_DIGITS = 16  # hexadecimal digits of the key that name a file

log = logging.getLogger(__name__)


def kept_statistics(rows: PackedFeatures) -> dict[str, Statistics]:
    """Return mean and deviation of each stream, as `statistics` does.

    They are computed once for these clips in this order, and written to the folder of the packed
    features; rows that have none, or whose folder cannot be written to, are summed each time.
    """
    if not rows.bank:
        return _computed(rows)
    sources = [rows.bank.sources[clip_id] for clip_id in rows.clip_ids]
    key = canonical_sha256({"version": VERSION, "sources": sources, "streams": list(rows.streams)})
    path = rows.bank.folder / f"statistics-{key[:KEY_DIGITS]}.json"
    if found := _read(path, key, rows):
        return found
    computed = _computed(rows)
    fields = {
        "key": key,
        "streams": {
            name: {"mean": each.mean.tolist(), "std": each.std.tolist()}
            for name, each in computed.items()
        },
    }
    try:
        write_atomic(path, canonical(fields | {"digest": canonical_sha256(fields)}))
    except OSError as error:
        log.info("the statistics of the packed features are not kept: %s", error)
    return computed


def _computed(rows: PackedFeatures) -> dict[str, Statistics]:
    return {
        name: statistics(each.values, each.valid, rows.index) for name, each in rows.streams.items()
    }


def _read(path: Path, key: str, rows: PackedFeatures) -> dict[str, Statistics] | None:
    """Return the statistics in a file; None if there is none, or it was changed."""
    try:
        fields = dict(json.loads(path.read_bytes()))
        if fields.pop("digest") != canonical_sha256(fields) or fields["key"] != key:
            raise ValueError("it was changed")
        device = rows.stored_on
        return {
            name: Statistics(
                torch.tensor(each["mean"], device=device), torch.tensor(each["std"], device=device)
            )
            for name, each in ((name, fields["streams"][name]) for name in rows.streams)
        }
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        log.info("%s cannot be read (%s): the statistics are computed again", path, error)
        return None
