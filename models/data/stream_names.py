"""The names of streams. Imports no torch, so that configs load fast."""

from typing import Annotated

from pydantic import AfterValidator, StringConstraints

RESERVED = (
    *("va", "time_s"),  # other arrays of packed features
    *("all", "others", "first", "fused", "attention_gate", "attention", "gate", "concatenation"),
)
"""What cannot be the name of a stream; the second line has values of keys that may name one."""


def _not_reserved(name: str) -> str:
    if name in RESERVED or name.endswith("_valid"):
        raise ValueError(f"a stream cannot be called {name!r}, which means something else: rename")
    return name


StreamName = Annotated[
    str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$"), AfterValidator(_not_reserved)
]
Streams = dict[StreamName, str | None]
"""The name of the feature set of each stream, in their order. None: the only set of a modality,
for a stream that is called `visual` or `audio`."""
