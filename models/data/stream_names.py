"""The names of streams. Imports no torch, so that configs load fast."""

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

RESERVED = (
    *("va", "time_s"),  # other arrays of packed features
    *("all", "others", "first", "fused", "attention_gate", "attention", "gate", "concatenation"),
)
"""What cannot be the name of a stream; the second line has values of keys that may name one."""


def _check_name(name: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ValueError(
            f"{name!r} cannot be the name of a stream, which has a lower-case letter first, and "
            "then such letters, digits and _: rename"
        )
    if name in RESERVED or name.endswith("_valid"):
        raise ValueError(f"a stream cannot be called {name!r}, which means something else: rename")
    return name


def _check_mapping(streams: object) -> object:
    if not isinstance(streams, dict):
        raise ValueError(
            "streams are feature sets by names of yours, such as {face: clip-..., voice: ast-...}"
        )
    return streams


StreamName = Annotated[str, AfterValidator(_check_name)]
Streams = Annotated[dict[StreamName, str | None], BeforeValidator(_check_mapping)]
"""The name of the feature set of each stream, in their order. None: the only set of a modality,
for a stream that is called `visual` or `audio`."""
