"""The command `compare`: differences between trained runs."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flows.terminal import print_lines


def add_compare_command(commands: Any) -> None:
    """Add `compare` to the command line."""
    command = commands.add_parser(
        "compare", help="compare runs with the first one: settings, scores, learning curves"
    )
    command.add_argument(
        "runs",
        type=Path,
        nargs="+",
        metavar="RUN",
        help="folders of heads, of ensembles, or of variants with several seeds; two or more",
    )
    command.add_argument(
        "-o", "--output", type=Path, metavar="OUT.html", help="also write a page with figures"
    )
    command.add_argument("--manifest", type=Path, help="default: that of each training")
    command.add_argument("--store", help="default: that of each training")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(command=_compare)


def _compare(arguments: argparse.Namespace) -> int:
    from models.stages.compare import compare

    found = compare(
        arguments.runs,
        output=arguments.output,
        manifest=arguments.manifest,
        store=arguments.store,
    )
    if arguments.json:
        print(json.dumps(_as_json(found), indent=2))
        return 0
    _print(found)
    if arguments.output:
        print_lines(f"compare: {arguments.output} shows the comparison")
    return 0


def _as_json(comparison: Any) -> dict[str, Any]:
    names = [run.name for run in comparison.runs]
    runs = [
        {
            "name": run.name,
            "path": str(run.listed.path),
            "n_trainings": run.n_trainings,
            **dict(zip(("ccc_valence", "ccc_arousal", "ccc_mean"), run.ccc, strict=True)),
            **(run.intervals.ends() if run.intervals else {}),
            "difference": run.difference and asdict(run.difference),
            "p_holm": run.p_holm,
        }
        for run in comparison.runs
    ]
    return {
        "reference": names[0],
        "n_clips": comparison.n_clips,
        "n_subjects": comparison.n_subjects,
        "n_labels": comparison.n_labels,
        "runs": runs,
        "settings": [
            {"key": key, "values": list(values)} for key, values in comparison.settings.items()
        ],
        "notes": list(comparison.notes),
    }


def _print(comparison: Any) -> None:
    from flows.console import plain_table, table_console
    from models.runs.settings import as_text

    console = table_console()
    runs = comparison.runs
    reference = runs[0].name
    scores = plain_table(["run"], ["V", "A", "mean", "95 %", "difference", "95 %", "p"])
    for run in runs:
        difference = run.difference and run.difference.mean
        scores.add_row(
            f"{run.name} x{run.n_trainings}" if run.n_trainings > 1 else run.name,
            *(f"{value:.3f}" for value in run.ccc),
            _interval(run.intervals and run.intervals.mean, ".3f"),
            f"{difference.value:+.3f}" if difference else "",
            _interval(difference, "+.3f"),
            "" if run.p_holm is None else f"{run.p_holm:.3f}",
        )
    console.print(scores)
    for run in runs:
        if run.difference:
            parts = (("valence", run.difference.valence), ("arousal", run.difference.arousal))
            texts = (f"{name} {each.value:+.3f} {_interval(each, '+.3f')}" for name, each in parts)
            print_lines(f"  {run.name} to {reference}: {', '.join(texts)}")
    if comparison.settings:
        settings = plain_table(["key", *(run.name for run in runs)], [])
        for key, values in comparison.settings.items():
            settings.add_row(key, *map(as_text, values))
        console.print(settings)
    else:
        print_lines("all have the same settings")
    print_lines(
        f"compare: {len(runs)} runs on {comparison.n_labels} labels of {comparison.n_clips} val "
        f"clips and {comparison.n_subjects} subjects; difference: mean CCC minus that of "
        f"{reference}, with its interval over subjects, paired",
        *(f"note: {note}" for note in comparison.notes),
    )


def _interval(estimate: Any, form: str) -> str:
    return f"[{estimate.low:{form}}, {estimate.high:{form}}]" if estimate else ""
