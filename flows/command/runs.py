"""The command `runs`: a table of the runs below a folder."""

import argparse
import csv
import io
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flows.terminal import print_lines

FOLDER = Path("data/runs")
COLUMNS = ("name", "valence", "arousal", "mean", "epochs", "seconds", "made")
HIGHEST_FIRST = ("valence", "arousal", "mean")
NARROW = 100  # with fewer columns of text, only scores and changed keys are shown
NUMBERS = ("V", "A", "mean", "95 %", "epochs", "s", "code")
N_SCORES = 4  # of these
DIGITS = 7  # of a commit or a digest
NOTES = {
    "*": "not scored: val CCC of the kept epoch, from the record of the training",
    "#": "not scored on val: out-of-fold CCC",
    "!": "trained by other code than that at hand",
    "?": "of a version that did not record its code",
}


def add_runs_command(commands: Any) -> None:
    """Add `runs` to the command line."""
    command = commands.add_parser("runs", help="list trained runs: settings, scores, code")
    command.add_argument(
        "folder", type=Path, nargs="?", default=FOLDER, metavar="FOLDER", help=f"default: {FOLDER}"
    )
    command.add_argument(
        "--sort",
        default="mean",
        metavar="KEY",
        help=f"{', '.join(COLUMNS)}, or a key such as head.width (default: mean, highest first)",
    )
    command.add_argument("--reverse", action="store_true", help="sort the other way round")
    command.add_argument(
        "--reference",
        metavar="RUN",
        help="show the keys that differ from this run's (default: from the most common values)",
    )
    command.add_argument(
        "--each-training",
        action="store_true",
        help="list each training of a variant, not their mean",
    )
    formats = command.add_mutually_exclusive_group()
    formats.add_argument("--json", action="store_true", help="print JSON")
    formats.add_argument(
        "--csv", action="store_true", help="print CSV, with a column per changed key"
    )
    command.set_defaults(command=_runs)


def _runs(arguments: argparse.Namespace) -> int:
    from models.runs.listing import list_runs
    from models.runs.settings import changed_settings

    folder = arguments.folder
    found = list_runs(folder, each_training=arguments.each_training)
    runs = _sorted(found, arguments.sort, is_reversed=arguments.reverse)
    reference = _reference(found, folder, arguments.reference)
    rows = [(run, changed_settings(run.settings, reference)) for run in runs]
    if arguments.json:
        fields = [_fields(run) | {"changed": changed} for run, changed in rows]
        shown = {"folder": str(folder), "reference": arguments.reference, "runs": fields}
        print(json.dumps(shown, indent=2))
    elif arguments.csv:
        sys.stdout.write(_csv(rows))
    elif rows:
        _print_table(rows)
    else:
        print_lines(f"runs: there is no run in {folder} or below it")
    return 1 if any(run.state == "damaged" for run in runs) else 0


def _sorted(runs: Sequence[Any], key: str, *, is_reversed: bool) -> list[Any]:
    """The runs by a column or by a setting; those without it come last, in the order of names."""
    from features.errors import InputError

    if key not in COLUMNS and not any(key in run.settings for run in runs) and runs:
        raise InputError(
            f"--sort {key}: no run has this key; give one of {', '.join(COLUMNS)}, or a key of a "
            "config such as train.learning_rate"
        )

    def value(run: Any) -> Any:
        if key in HIGHEST_FIRST:
            ccc = run.score and getattr(run.score, f"ccc_{key}")
            return None if ccc is None or math.isnan(ccc) else ccc
        if key in COLUMNS:
            return getattr(run, "made_at" if key == "made" else key)
        return run.settings.get(key)

    def rank(run: Any) -> tuple[bool, Any]:  # numbers before texts
        found = value(run)
        is_number = isinstance(found, int | float)
        return not is_number, found if is_number else str(found)

    is_descending = (key in HIGHEST_FIRST) != is_reversed
    with_value = [run for run in runs if value(run) is not None]
    with_value.sort(key=rank, reverse=is_descending)  # stable: equal ones stay in order of names
    return with_value + [run for run in runs if value(run) is None]


def _reference(runs: Sequence[Any], folder: Path, name: str | None) -> Any:
    """The settings that those of each run are compared with."""
    from models.runs.listing import find_run
    from models.runs.settings import most_common

    if name is None:
        first_made_first = sorted(runs, key=lambda run: (run.made_at is None, run.made_at or ""))
        return most_common([run.settings for run in first_made_first if run.settings])
    listed = next((run for run in runs if name == run.name), None)
    if listed is None:
        listed = find_run(Path(name))
    return listed.settings


def _fields(run: Any) -> dict[str, Any]:
    """The fields of a run for other programs; what is no number is null."""
    fields = asdict(run)
    score = fields.pop("score") or {}
    del fields["settings"]
    numbers = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in score.items()
    }
    fields |= {"path": str(run.path), "trainings": [str(path) for path in run.trainings]}
    return fields | numbers


def _csv(rows: Sequence[tuple[Any, Any]]) -> str:
    """A line per run: its fields, then the keys that are changed in any run."""
    from dataclasses import fields

    from models.runs.listed_run import ListedRun, ListedScore
    from models.runs.settings import as_text

    own = [field.name for field in fields(ListedRun) if field.name not in ("score", "settings")]
    own += [field.name for field in fields(ListedScore)]
    keys = sorted({key for _, changed in rows for key in changed})
    text = io.StringIO()
    writer = csv.DictWriter(text, [*own, *keys], lineterminator="\n")
    writer.writeheader()
    for run, _ in rows:
        values = {key: as_text(run.settings[key]) for key in keys if key in run.settings}
        writer.writerow(_fields(run) | values)
    return text.getvalue()


def _print_table(rows: Sequence[tuple[Any, Any]]) -> None:
    from flows.console import plain_table, table_console
    from models.runs.settings import as_text

    console = table_console()
    is_narrow = console.width < NARROW
    numbers = NUMBERS[:N_SCORES] if is_narrow else NUMBERS
    table = plain_table(["run"], numbers, ["changed keys"])
    marks: dict[str, None] = {}
    for run, changed in rows:
        mark = {"training": "*", "out-of-fold": "#"}.get(run.score.source if run.score else "", "")
        code, code_mark = _code(run)
        numbers = (
            *_scores(run.score, mark),
            _epochs(run),
            "" if run.seconds is None else f"{run.seconds:.0f}",
            code + code_mark,
        )
        shown = (mark,) if is_narrow else (mark, code_mark)
        marks |= dict.fromkeys(each for each in shown if each)
        table.add_row(
            f"{run.name} x{len(run.trainings)}" if len(run.trainings) > 1 else run.name,
            *(numbers[:N_SCORES] if is_narrow else numbers),
            ", ".join(f"{key}={as_text(value)}" for key, value in changed.items()),
        )
    console.print(table)
    lines = [f"  {mark} {NOTES[mark]}" for mark in NOTES if mark in marks]
    if any(len(run.trainings) > 1 for run, _ in rows):
        lines.append("  xN mean and interval over N trainings; --each-training lists them")
    if is_narrow:
        lines.append(f"  a terminal of {NARROW} columns also shows epochs, seconds and code")
    lines += [f"{run.state}: {run.name}: {run.note}" for run, _ in rows if run.note]
    if lines:
        print_lines(*lines)


def _scores(score: Any, mark: str) -> tuple[str, str, str, str]:
    if score is None:
        return "", "", "", ""
    low, high = score.ccc_mean_low, score.ccc_mean_high
    interval = "" if low is None or high is None else f"[{low:.3f}, {high:.3f}]"
    return (
        f"{score.ccc_valence:.3f}",
        f"{score.ccc_arousal:.3f}",
        f"{score.ccc_mean:.3f}{mark}",
        interval,
    )


def _epochs(run: Any) -> str:
    if run.state == "unfinished" and run.epochs is not None and run.max_epochs:
        return f"{run.epochs}/{run.max_epochs}"
    return str(run.epochs or "")


def _code(run: Any) -> tuple[str, str]:
    """The commit, with the digest of the code if files differ from it; and a mark."""
    commit, plus, _ = (run.git_commit or "").partition("+")
    digest = (run.code or "")[: DIGITS if not commit else 4]
    text = f"{commit[:DIGITS]}{plus}{digest}" if plus or not commit else commit[:DIGITS]
    if run.code is None:
        return text, "?" if commit else ""
    return text, "" if run.is_same_code else "!"
