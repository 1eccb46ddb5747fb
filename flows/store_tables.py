"""Tables of a store, for a person."""

from collections.abc import Sequence

from rich.table import Table

from features.listing import ClipInfo, SetListing, leaves
from features.status import readable


def sets_table(sets: Sequence[SetListing]) -> Table:
    """A row per feature set."""
    table = Table(title="feature sets")
    for name in ("feature set", "modality", "model"):
        table.add_column(name, overflow="fold")
    for name in ("clips", "size"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in sets:
        size = readable(each.n_bytes)
        table.add_row(each.spec, each.modality, each.model, str(len(each.clips)), size)
    return table


def clips_table(sets: Sequence[SetListing]) -> Table:
    """A row per clip, with a mark in the column of each set that has it."""
    table = Table(title="clips")
    table.add_column("clip", overflow="fold")
    for each in sets:
        table.add_column(each.spec, overflow="fold")
    having = {each.spec: set(each.clips) for each in sets}
    for clip in sorted({clip for each in sets for clip in each.clips}):
        table.add_row(clip, *("yes" if clip in having[each.spec] else "-" for each in sets))
    return table


def info_table(info: ClipInfo) -> Table:
    """All that is recorded of a clip in one feature set, a row per field."""
    table = Table(title=info.spec)
    table.add_column("field", overflow="fold")
    table.add_column("value", overflow="fold")
    if info.fault:
        table.add_row("damaged", info.fault)
        return table
    table.add_row("rows x width", f"{info.n_rows} x {info.width}")
    table.add_row("size", f"{readable(info.n_bytes)} in {info.n_files} files")
    table.add_row("note", info.note or "")
    table.add_row("digest", info.digest)
    for name, value in (("source", info.source), ("provenance", info.provenance)):
        for path, leaf in leaves(value, name):
            table.add_row(path, leaf)
    return table
