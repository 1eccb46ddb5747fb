"""Canonical JSON: equal values have equal bytes, so that a digest depends on values only."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

JsonObject = dict[str, Any]
ABSENT = "(absent)"


@dataclass(frozen=True, slots=True)
class FieldDifference:
    """A field with two different values, each as JSON."""

    field: str
    """Dotted path, such as `spec.preprocessing.size` or `source.video`."""
    old: str
    new: str


def canonical(value: Any) -> bytes:
    """The canonical JSON of a value: sorted keys, no spaces, ASCII, a whole float as an integer.

    Raises `ValueError` for NaN and infinity, `TypeError` for a type that JSON lacks.
    """
    return json.dumps(
        _normalise_floats(value),
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=True,
        allow_nan=False,
    ).encode()


def canonical_sha256(value: Any) -> str:
    """sha256 of the canonical JSON, in hexadecimal; raises as `canonical` does."""
    return hashlib.sha256(canonical(value)).hexdigest()


def _normalise_floats(value: Any) -> Any:
    """The value with 1.0 as 1, so that a digest does not depend on how a config writes a number."""
    if isinstance(value, dict):
        return {key: _normalise_floats(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_normalise_floats(inner) for inner in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def parse_object(raw: bytes) -> JsonObject:
    """The JSON object in these bytes; raises `ValueError` if there is none."""
    try:
        value = json.loads(raw)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError(f"expected an object, found a {type(value).__name__}")
    return value


def differences(path: str, old: Any, new: Any) -> Iterator[FieldDifference]:
    """Yield every leaf that differs between two JSON values, sorted by dotted path."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from differences(
                f"{path}.{key}".lstrip("."), old.get(key, ABSENT), new.get(key, ABSENT)
            )
    elif old != new:
        yield FieldDifference(path, _as_text(old), _as_text(new))


def _as_text(value: Any) -> str:
    return value if value == ABSENT else json.dumps(value, sort_keys=True)
