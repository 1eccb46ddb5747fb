"""Canonical JSON: one spelling for equal values, as digests need it."""

import json
from typing import Any

JsonObject = dict[str, Any]  # what `json` makes of an object


def canonical(value: Any) -> bytes:
    """One spelling for equal values: sorted keys, no spaces, a whole float as an integer."""
    return json.dumps(
        _normalise_floats(value),
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=True,
        allow_nan=False,
    ).encode()


def _normalise_floats(value: Any) -> Any:
    """The value with 1.0 as 1, so that a config's spelling of a number cannot change a digest."""
    if isinstance(value, dict):
        return {key: _normalise_floats(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_normalise_floats(inner) for inner in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def parse_object(raw: bytes) -> JsonObject:
    """The JSON object in these bytes; `ValueError` where there is none."""
    try:
        found = json.loads(raw)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError(f"a {type(found).__name__} where an object belongs")
    return found
