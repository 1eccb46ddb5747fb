"""Tables of a store for the terminal."""

from collections.abc import Iterator, Sequence

from rich.table import Table

from features.maintenance.listing import ClipInfo, SetListing, leaves
from features.maintenance.statistics.result import Coverage, NearPair, SetStatistics
from features.maintenance.status import readable

LISTED_AT_MOST = 20  # of clips or dimensions, in a line or below one


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
    """A row per clip, with a column per feature set."""
    table = Table(title="clips")
    table.add_column("clip", overflow="fold")
    for each in sets:
        table.add_column(each.spec, overflow="fold")
    clips_of = {each.spec: set(each.clips) for each in sets}
    for clip in sorted({clip for each in sets for clip in each.clips}):
        table.add_row(clip, *("yes" if clip in clips_of[each.spec] else "-" for each in sets))
    return table


def info_table(info: ClipInfo) -> Table:
    """The record of a clip in one feature set, a row per field."""
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


def render_statistics(sets: Sequence[SetStatistics]) -> Iterator[str | Table]:
    """Yield the statistics of a store as tables and lines."""
    yield statistics_table(sets)
    for each in sets:
        yield from _details(each)


def statistics_table(sets: Sequence[SetStatistics]) -> Table:
    """A row per feature set."""
    table = Table(title="feature sets")
    table.add_column("feature set", overflow="fold")
    for name in ("clips", "rows", "width", "seconds", "size", "valid rows"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in sets:
        summary = each.summary
        counts = (str(n) for n in (summary.n_clips, summary.n_rows, each.width))
        covered = "-" if each.valid_share is None else f"{each.valid_share:.2%}"
        cells = f"{summary.duration_s:.1f}", readable(summary.n_bytes), covered
        table.add_row(each.spec, *counts, *cells)
    return table


def _details(each: SetStatistics) -> Iterator[str | Table]:
    summary, moments = each.summary, each.summary.moments
    if moments.n:
        means, stds = (f"{a.min():.4g} to {a.max():.4g}" for a in (moments.mean, moments.std))
        yield (
            f"{each.spec}: numbers from {moments.low.min():.4g} to {moments.high.max():.4g}; by "
            f"dimension, means from {means}, deviations from {stds}; "
            f"{summary.valid_s:.1f} s in valid rows"
        )
    else:
        yield f"{each.spec}: no valid row"
    if moments.dead:
        n = len(moments.dead)
        yield f"  the same in all rows: {n} of {each.width} dimensions: {_some(moments.dead)}"
    if summary.n_not_finite:
        yield f"  not finite: {summary.n_not_finite} numbers, in records that are left out"
    blank = [f"{b.clip}, {b.n_rows} rows{f': {b.note}' if b.note else ''}" for b in summary.empty]
    damaged = [f"{d.clip}: {d.what}" for d in summary.damaged]
    yield from _below("no valid row", blank)
    yield from _below("left out", damaged)
    if each.manifest_coverage:
        yield _coverage_line(each.manifest_coverage)
    if each.nearest:
        yield _pairs_table(each.nearest, each.n_likely)


def _below(what: str, clips: Sequence[str]) -> Iterator[str]:
    yield from (f"  {what}: {clip}" for clip in clips[:LISTED_AT_MOST])
    if len(clips) > LISTED_AT_MOST:
        yield f"  {what}: {len(clips) - LISTED_AT_MOST} more (--json lists all)"


def _some(things: Sequence[object]) -> str:
    more = f" and {len(things) - LISTED_AT_MOST} more" if len(things) > LISTED_AT_MOST else ""
    return ", ".join(str(each) for each in things[:LISTED_AT_MOST]) + more


def _coverage_line(share: Coverage) -> str:
    n = share.n_clips - len(share.missing)
    missing = f"; without: {_some(share.missing)}" if share.missing else ""
    return f"  of the manifest: {n} of {share.n_clips} clips ({share.share:.2%}){missing}"


def _pairs_table(pairs: Sequence[NearPair], n_likely: int) -> Table:
    """The most similar clips, a row per pair."""
    n = f"{n_likely} likely duplicate{'s' * (n_likely != 1)}" if n_likely else "no likely duplicate"
    table = Table(title=f"most similar clips; {n}")
    for name in ("clip", "and"):
        table.add_column(name, overflow="fold")
    table.add_column("cosine", justify="right", no_wrap=True)
    table.add_column("likely the same", no_wrap=True)
    for each in pairs:
        likely = "yes" if each.is_likely else "-"
        table.add_row(each.first, each.second, f"{each.cosine:.6f}", likely)
    return table
