"""Tables of a store for the terminal."""

from collections.abc import Iterator, Sequence

from rich.table import Table

from features.maintenance.listing import ClipInfo, SetListing, leaves
from features.maintenance.statistics.compute import NearPair, SetStatistics
from features.maintenance.status import readable
from flows.console import make_table

LISTED_AT_MOST = 20  # of clips or dimensions, in a line or below one


def sets_table(sets: Sequence[SetListing]) -> Table:
    """A row per feature set."""
    rows = [
        (each.spec, each.modality, each.model, str(len(each.clips)), readable(each.n_bytes))
        for each in sets
    ]
    texts = ["feature set", "modality", "model"]
    return make_table("feature sets", texts, ["clips", "size"], rows)


def clips_table(sets: Sequence[SetListing]) -> Table:
    """A row per clip, with a column per feature set."""
    clips_of = {each.spec: set(each.clips) for each in sets}
    rows = [
        (clip, *("yes" if clip in clips else "-" for clips in clips_of.values()))
        for clip in sorted(set().union(*clips_of.values()))
    ]
    return make_table("clips", ["clip", *clips_of], [], rows)


def info_table(info: ClipInfo) -> Table:
    """The record of a clip in one feature set, a row per field."""
    rows = [
        ("rows x width", f"{info.n_rows} x {info.width}"),
        ("size", f"{readable(info.n_bytes)} in {info.n_files} files"),
        ("note", info.note or ""),
        ("digest", info.digest),
        *leaves(info.source, "source"),
        *leaves(info.provenance, "provenance"),
    ]
    rows = [("damaged", info.fault)] if info.fault else rows
    return make_table(info.spec, ["field", "value"], [], rows)


def render_statistics(sets: Sequence[SetStatistics]) -> Iterator[str | Table]:
    """Yield the statistics of a store as tables and lines."""
    yield _statistics_table(sets)
    for each in sets:
        yield from _details(each)


def _statistics_table(sets: Sequence[SetStatistics]) -> Table:
    rows = []
    for each in sets:
        summary = each.summary
        counts = (str(n) for n in (summary.n_clips, summary.n_rows, each.width))
        covered = "-" if each.valid_share is None else f"{each.valid_share:.2%}"
        cells = f"{summary.duration_s:.1f}", readable(summary.n_bytes), covered
        rows.append((each.spec, *counts, *cells))
    names = ["clips", "rows", "width", "seconds", "size", "valid rows"]
    return make_table("feature sets", ["feature set"], names, rows)


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
        share = each.manifest_coverage
        n = share.n_clips - len(share.missing)
        missing = f"; without: {_some(share.missing)}" if share.missing else ""
        yield f"  of the manifest: {n} of {share.n_clips} clips ({share.share:.2%}){missing}"
    if each.nearest:
        yield _pairs_table(each.nearest, each.n_likely)


def _below(what: str, clips: Sequence[str]) -> Iterator[str]:
    yield from (f"  {what}: {clip}" for clip in clips[:LISTED_AT_MOST])
    if len(clips) > LISTED_AT_MOST:
        yield f"  {what}: {len(clips) - LISTED_AT_MOST} more (--json lists all)"


def _some(things: Sequence[object]) -> str:
    more = f" and {len(things) - LISTED_AT_MOST} more" if len(things) > LISTED_AT_MOST else ""
    return ", ".join(str(each) for each in things[:LISTED_AT_MOST]) + more


def _pairs_table(pairs: Sequence[NearPair], n_likely: int) -> Table:
    n = f"{n_likely} likely duplicate{'s' * (n_likely != 1)}" if n_likely else "no likely duplicate"
    rows = [
        (each.first, each.second, f"{each.cosine:.6f}", "yes" if each.is_likely else "-")
        for each in pairs
    ]
    names = ["cosine", "likely the same"]
    return make_table(f"most similar clips; {n}", ["clip", "and"], names, rows)
