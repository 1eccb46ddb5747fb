"""The commands that look at a store, or put it in order: their arguments, and what they print."""

import argparse
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

SHOWN_AT_MOST = 20  # of what `gc` found, for a person


def add_store_commands(commands: Any) -> None:
    """Tell the command line of status, why, verify, gc, ls, info, stats, export and import-h5."""
    status = _command(commands, "status", _status, "what the store has of a manifest")
    status.add_argument("manifest", type=Path, metavar="MANIFEST")

    why = _command(commands, "why", _why, "what differs between a clip's features and its media")
    why.add_argument("clip", metavar="CLIP")
    why.add_argument("--manifest", type=Path, help="look at the media as well")

    verify = _command(commands, "verify", _verify, "read every byte, and say what is wrong")
    verify.add_argument(
        "--repair", action="store_true", help="extract again what is wrong; wants -c, or keys"
    )
    verify.add_argument("-c", "--config", type=Path, metavar="CONFIG.yaml")
    verify.add_argument("overrides", nargs="*", metavar="key=value", help="of extract-features")

    gc = _command(commands, "gc", _gc, "show what nobody needs, and remove it with --apply")
    gc.add_argument("--apply", action="store_true", help="remove what is shown")
    gc.add_argument(
        "--sets", nargs="+", default=(), metavar="NAME", help="these feature sets, whole, as well"
    )
    gc.add_argument("--manifest", type=Path, help="records of clips that it does not have, as well")

    _command(commands, "ls", _ls, "the feature sets and clips of a store")
    info = _command(commands, "info", _info, "all that is recorded of a clip")
    info.add_argument("clip", metavar="CLIP")

    stats = _command(commands, "stats", _stats, "what the rows of a store are like, all of them")
    stats.add_argument("--set", action="append", metavar="NAME", help="only this one; or several")
    stats.add_argument("--manifest", type=Path, help="and what is there of its clips")
    stats.add_argument("--pairs", type=int, metavar="N", help="of most similar clips (10; 0: none)")

    export_h5 = _command(
        commands, "export", _export, "write a store into one HDF5 file", json=False
    )
    export_h5.add_argument("output", type=Path, metavar="OUT.h5")
    export_h5.add_argument("--manifest", type=Path, help="only the clips of this manifest")

    taken = commands.add_parser("import-h5", help="bring what was exported into a store")
    taken.add_argument("source", type=Path, metavar="IN.h5")
    taken.add_argument("store", metavar="STORE")
    taken.set_defaults(command=_import_h5)


def _command(commands: Any, name: str, run: Any, said: str, *, json: bool = True) -> Any:
    """A command whose first argument is a store."""
    command = commands.add_parser(name, help=said)
    command.add_argument("store", metavar="STORE")
    if json:
        command.add_argument("--json", action="store_true", help="as JSON, for a program")
    command.set_defaults(command=run)
    return command


def _say(arguments: argparse.Namespace, as_json: Any, lines: Any) -> None:
    """Print what was found: for a program, or for a person."""
    print(json.dumps(as_json, indent=2) if arguments.json else "\n".join(lines))


def _status(arguments: argparse.Namespace) -> int:
    from features.maintenance.status import render_status, status

    found = status(arguments.store, arguments.manifest)
    _say(arguments, found.as_json() if arguments.json else None, render_status(found))
    return 0 if found.is_complete else 1


def _why(arguments: argparse.Namespace) -> int:
    from features.maintenance.why import as_json, render_why, why

    found = why(arguments.store, arguments.clip, arguments.manifest)
    _say(arguments, as_json(found), render_why(found))
    return 0 if all(each.state == "complete" for each in found) else 1


def _verify(arguments: argparse.Namespace) -> int:
    from features.maintenance.status import readable
    from features.maintenance.verify import Verification, render_verification, verify
    from flows.progress import progress_bar

    def looked() -> Verification:
        with progress_bar("verify") as on_progress:
            return verify(arguments.store, on_progress=on_progress)

    found = looked()
    failed: Collection[Any] = ()
    if arguments.repair and found.problems:
        failed = _repair(arguments, found)
        found = looked()
    read = f"{found.n_records} records, {found.n_files} files, {readable(found.n_bytes)}"
    n = len(found.problems)
    said = f"{n} problem{'s' * (n > 1)}" if n else "nothing is wrong"
    line = f"verify: {arguments.store}: {read}: {said}"
    _say(arguments, found.as_json(), [*render_verification(found), line])
    return 1 if found.problems or failed else 0


def _repair(arguments: argparse.Namespace, found: Any) -> Collection[Any]:
    """Extract again what was found to be wrong, and say what was; the outcomes that failed."""
    import sys

    from features.errors import InputError
    from features.extraction.outcome import ExtractionResult
    from features.maintenance.repair import repair
    from features.maintenance.verify import render_verification
    from features.manifest.manifest import read_manifest
    from flows.settings import settings
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
    print("\n".join(["verify: found", *render_verification(found)]), file=sys.stderr)
    done = repair(arguments.store, found, specs, clips)
    if not any(problem.spec for problem in done.repaired):
        return ()
    ended = extract_features(**keys)
    assert isinstance(ended, ExtractionResult)  # no dry run
    print(ended.summary(), file=sys.stderr)
    for outcome in ended.failed:
        print(f"  {outcome.clip} ({outcome.feature_set}): {outcome.detail}", file=sys.stderr)
    return ended.failed


def _gc(arguments: argparse.Namespace) -> int:
    from features.maintenance.garbage import find_garbage, remove_garbage
    from features.maintenance.status import readable
    from features.store.feature_store import FeatureStore

    store = FeatureStore.open(arguments.store)
    found = find_garbage(store, sets=tuple(arguments.sets), clips=_clips_of(arguments.manifest))
    gone = remove_garbage(store, found) if arguments.apply else []
    shown = gone if arguments.apply else found
    rows = [{"kind": d.kind, "path": str(d.path), "bytes": d.n_bytes} for d in shown]
    lines = [f"  {d.kind}: {d.path} ({readable(d.n_bytes)})" for d in shown[:SHOWN_AT_MOST]]
    if len(shown) > SHOWN_AT_MOST:
        lines.append(f"  and {len(shown) - SHOWN_AT_MOST} more (--json lists all)")
    what = f"{len(shown)} of {readable(sum(d.n_bytes for d in shown))}"
    said = f"{what} removed" if arguments.apply else f"{what} can go (--apply removes them)"
    _say(
        arguments,
        {"applied": arguments.apply, "debris": rows},
        [*lines, f"gc: {arguments.store}: {said if found else 'nothing to remove'}"],
    )
    return 0


def _clips_of(manifest: Path | None) -> Collection[str] | None:
    """The ids of a manifest, where one is given."""
    from features.manifest.manifest import read_manifest

    return None if manifest is None else {clip.id for clip in read_manifest(manifest).clips}


def _ls(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from features.maintenance.listing import listing
    from flows.command.store_tables import clips_table, sets_table
    from flows.console import PipeConsole

    found = listing(arguments.store)
    if arguments.json:
        print(json.dumps({"sets": [asdict(each) for each in found]}, indent=2))
    else:
        PipeConsole().print(sets_table(found), clips_table(found))
    return 0


def _info(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from features.maintenance.listing import info
    from flows.command.store_tables import info_table
    from flows.console import PipeConsole

    found = info(arguments.store, arguments.clip)
    if arguments.json:
        print(json.dumps({"sets": [asdict(each) for each in found]}, indent=2))
    else:
        PipeConsole().print(*(info_table(each) for each in found))
    return 1 if any(each.fault for each in found) else 0


def _stats(arguments: argparse.Namespace) -> int:
    from features.maintenance.statistics.compute import PAIRS, statistics
    from flows.command.store_tables import render_statistics
    from flows.console import plain_console
    from flows.progress import progress_bar

    n_pairs = PAIRS if arguments.pairs is None else arguments.pairs
    sets, manifest = arguments.set or (), arguments.manifest
    with progress_bar("stats") as on_progress:
        found = statistics(
            arguments.store, sets, manifest, n_pairs=n_pairs, on_progress=on_progress
        )
    if arguments.json:
        print(json.dumps({"sets": [each.as_json() for each in found]}, indent=2))
    else:
        plain_console().print(*render_statistics(found), sep="\n")
    return 1 if any(each.summary.damaged for each in found) else 0


def _export(arguments: argparse.Namespace) -> int:
    from features.store.hdf5 import export_h5

    n_records = export_h5(arguments.store, arguments.output, _clips_of(arguments.manifest))
    print(f"export: {n_records} records of {arguments.store} in {arguments.output}")
    return 0


def _import_h5(arguments: argparse.Namespace) -> int:
    from features.store.hdf5 import import_h5

    ended = import_h5(arguments.source, arguments.store)
    for place in ended.kept:
        print(f"  kept: {place}: {arguments.store} has another record of it; remove it to import")
    print(
        f"import-h5: {len(ended.written)} records written, {len(ended.present)} already there, "
        f"{len(ended.kept)} kept as they were, in {arguments.store}"
    )
    return 1 if ended.kept else 0
