"""The commands that inspect and maintain a store: their arguments and their output."""

import argparse
import json
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flows.terminal import print_lines

SHOWN_AT_MOST = 20  # lines of `gc` without --json


def add_store_commands(commands: Any) -> None:
    """Add status, why, verify, gc, ls, info, stats, export and import-h5 to the command line."""
    status = _command(commands, "status", _status, "show which clips of a manifest the store has")
    status.add_argument("manifest", type=Path, metavar="MANIFEST")

    why = _command(commands, "why", _why, "explain the state of a clip's features")
    why.add_argument("clip", metavar="CLIP")
    why.add_argument("--manifest", type=Path, help="compare with the media, too")

    verify = _command(commands, "verify", _verify, "read every byte, and report problems")
    verify.add_argument(
        "--repair", action="store_true", help="extract damaged records again; requires -c or keys"
    )
    verify.add_argument("-c", "--config", type=Path, metavar="CONFIG.yaml")
    verify.add_argument("overrides", nargs="*", metavar="key=value", help="of extract-features")

    gc = _command(commands, "gc", _gc, "show what is not needed, and remove it with --apply")
    gc.add_argument("--apply", action="store_true", help="remove what is shown")
    gc.add_argument(
        "--sets", nargs="+", default=(), metavar="NAME", help="also remove these feature sets"
    )
    gc.add_argument("--manifest", type=Path, help="also remove records of clips that it lacks")

    _command(commands, "ls", _ls, "list the feature sets and clips of a store")
    info = _command(commands, "info", _info, "show the records of a clip")
    info.add_argument("clip", metavar="CLIP")

    stats = _command(commands, "stats", _stats, "statistics of the rows of a store")
    stats.add_argument(
        "--set", action="append", metavar="NAME", help="this feature set; repeatable"
    )
    stats.add_argument("--manifest", type=Path, help="also report the coverage of its clips")
    stats.add_argument("--pairs", type=int, metavar="N", help="most similar pairs (default: 10)")

    export_h5 = _command(
        commands, "export", _export, "write a store into one HDF5 file", json=False
    )
    export_h5.add_argument("output", type=Path, metavar="OUT.h5")
    export_h5.add_argument("--manifest", type=Path, help="only the clips of this manifest")

    import_h5 = commands.add_parser("import-h5", help="import an exported HDF5 file into a store")
    import_h5.add_argument("source", type=Path, metavar="IN.h5")
    import_h5.add_argument("store", metavar="STORE")
    import_h5.set_defaults(command=_import_h5)


def _command(commands: Any, name: str, run: Any, summary: str, *, json: bool = True) -> Any:
    command = commands.add_parser(name, help=summary)
    command.add_argument("store", metavar="STORE")
    if json:
        command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(command=run)
    return command


def _print_result(arguments: argparse.Namespace, as_json: Any, lines: Any) -> None:
    if arguments.json:
        print(json.dumps(as_json, indent=2))
    else:
        print_lines(*lines)


def _print_sets(arguments: argparse.Namespace, console: Any, as_json: Any, shown: Any) -> None:
    if arguments.json:
        print(json.dumps({"sets": as_json}, indent=2))
    else:
        console.print(*shown, sep="\n")


def _status(arguments: argparse.Namespace) -> int:
    from features.maintenance.status import render_status, status

    result = status(arguments.store, arguments.manifest)
    _print_result(arguments, result.as_json() if arguments.json else None, render_status(result))
    return 0 if result.is_complete else 1


def _why(arguments: argparse.Namespace) -> int:
    from features.maintenance.why import as_json, render_why, why

    result = why(arguments.store, arguments.clip, arguments.manifest)
    _print_result(arguments, as_json(result), render_why(result))
    return 0 if all(each.state == "complete" for each in result) else 1


def _verify(arguments: argparse.Namespace) -> int:
    from features.maintenance.status import readable
    from features.maintenance.verify import Verification, render_verification, verify
    from flows.progress import progress_bar

    def run_verify() -> Verification:
        with progress_bar("verify") as on_progress:
            return verify(arguments.store, on_progress=on_progress)

    verification = run_verify()
    failed: Collection[Any] = ()
    if arguments.repair and verification.problems:
        failed = _repair(arguments, verification)
        verification = run_verify()
    size = readable(verification.n_bytes)
    n = len(verification.problems)
    result = f"{n} problem{'s' * (n > 1)}" if n else "nothing is wrong"
    line = (
        f"verify: {arguments.store}: {verification.n_records} records, "
        f"{verification.n_files} files, {size}: {result}"
    )
    _print_result(arguments, verification.as_json(), [*render_verification(verification), line])
    return 1 if verification.problems or failed else 0


def _repair(arguments: argparse.Namespace, verification: Any) -> Collection[Any]:
    """Report the problems and extract their clips again; returns the outcomes that failed."""
    from features.errors import InputError
    from features.extraction.outcome import ExtractionResult
    from features.maintenance.repair import repair
    from features.maintenance.verify import render_verification
    from features.manifest.manifest import read_manifest
    from flows.keys.settings import settings
    from flows.stages import extract_features

    if arguments.config is None and not arguments.overrides:
        raise InputError(
            "--repair extracts again: give the config that made the store, such as "
            f"`vaflow verify {arguments.store} --repair -c configs/experiments/demo.yaml`"
        )
    words = [*arguments.overrides, f"store={arguments.store}"]
    keys = settings(extract_features, arguments.config, words)
    if keys.pop("dry_run", False):
        raise InputError("--repair writes to the store; leave out dry_run, or --repair")
    specs = [encoder.spec() for encoder in keys["encoders"]]
    clips = {clip.id for clip in read_manifest(keys["manifest"]).clips}
    print_lines("verify: found", *render_verification(verification), stderr=True)
    repaired = repair(arguments.store, verification, specs, clips)
    if not any(problem.spec for problem in repaired.repaired):
        return ()
    extraction = extract_features(**keys)
    assert isinstance(extraction, ExtractionResult)  # no dry run
    failures = (f"  {o.clip} ({o.feature_set}): {o.detail}" for o in extraction.failed)
    print_lines(extraction.summary(), *failures, stderr=True)
    return extraction.failed


def _gc(arguments: argparse.Namespace) -> int:
    from features.maintenance.garbage import find_garbage, remove_garbage
    from features.maintenance.status import readable
    from features.store.feature_store import FeatureStore

    store = FeatureStore.open(arguments.store)
    debris = find_garbage(store, sets=tuple(arguments.sets), clips=_clips_of(arguments.manifest))
    shown = remove_garbage(store, debris) if arguments.apply else debris
    rows = [{"kind": d.kind, "path": str(d.path), "bytes": d.n_bytes} for d in shown]
    lines = [f"  {d.kind}: {d.path} ({readable(d.n_bytes)})" for d in shown[:SHOWN_AT_MOST]]
    if len(shown) > SHOWN_AT_MOST:
        lines.append(f"  and {len(shown) - SHOWN_AT_MOST} more (--json lists all)")
    result = f"{len(shown)} of {readable(sum(d.n_bytes for d in shown))}"
    result += " removed" if arguments.apply else " can go (--apply removes them)"
    _print_result(
        arguments,
        {"applied": arguments.apply, "debris": rows},
        [*lines, f"gc: {arguments.store}: {result if debris else 'nothing to remove'}"],
    )
    return 0


def _clips_of(manifest: Path | None) -> Collection[str] | None:
    from features.manifest.manifest import read_manifest

    return None if manifest is None else {clip.id for clip in read_manifest(manifest).clips}


def _ls(arguments: argparse.Namespace) -> int:
    from features.maintenance.listing import listing
    from flows.command.store_tables import clips_table, sets_table
    from flows.console import PipeConsole

    sets = listing(arguments.store)
    tables = (sets_table(sets), clips_table(sets))
    _print_sets(arguments, PipeConsole(), [asdict(each) for each in sets], tables)
    return 0


def _info(arguments: argparse.Namespace) -> int:
    from features.maintenance.listing import info
    from flows.command.store_tables import info_table
    from flows.console import PipeConsole

    records = info(arguments.store, arguments.clip)
    tables = (info_table(each) for each in records)
    _print_sets(arguments, PipeConsole(), [asdict(each) for each in records], tables)
    return 1 if any(each.fault for each in records) else 0


def _stats(arguments: argparse.Namespace) -> int:
    from features.maintenance.statistics.compute import PAIRS, statistics
    from flows.command.store_tables import render_statistics
    from flows.console import plain_console
    from flows.progress import progress_bar

    n_pairs = PAIRS if arguments.pairs is None else arguments.pairs
    with progress_bar("stats") as on_progress:
        sets = statistics(
            arguments.store,
            arguments.set or (),
            arguments.manifest,
            n_pairs=n_pairs,
            on_progress=on_progress,
        )
    as_json = [each.as_json() for each in sets] if arguments.json else []
    _print_sets(arguments, plain_console(), as_json, render_statistics(sets))
    return 1 if any(each.summary.damaged for each in sets) else 0


def _export(arguments: argparse.Namespace) -> int:
    from features.store.hdf5 import export_h5

    n_records = export_h5(arguments.store, arguments.output, _clips_of(arguments.manifest))
    print_lines(f"export: {n_records} records of {arguments.store} in {arguments.output}")
    return 0


def _import_h5(arguments: argparse.Namespace) -> int:
    from features.store.hdf5 import import_h5

    result = import_h5(arguments.source, arguments.store)
    for path in result.kept:
        print_lines(
            f"  kept: {path}: {arguments.store} has a different record; remove it to import"
        )
    print_lines(
        f"import-h5: {len(result.written)} records written, {len(result.present)} already there, "
        f"{len(result.kept)} kept as they were, in {arguments.store}"
    )
    return 1 if result.kept else 0
