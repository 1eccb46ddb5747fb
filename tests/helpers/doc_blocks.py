"""The blocks of the documentation that tests run."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MARKED = re.compile(
    r"<!-- (run|edit|output|file: (?P<file>\S+)) -->\n```(?P<language>\w+)\n(?P<text>.*?)```", re.S
)


@dataclass(frozen=True)
class Block:
    """A marked block of a page."""

    language: str
    text: str
    file: Path | None
    """Where the block is to be written."""


def blocks(page: Path) -> Iterator[Block]:
    """The marked blocks of a page, in order."""
    for match in MARKED.finditer(page.read_text()):
        file = match["file"]
        yield Block(match["language"], match["text"], Path(file) if file else None)
