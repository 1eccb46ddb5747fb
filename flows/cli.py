"""The command `vaflow`. What it does not need for a call it does not import."""

import argparse
import errno
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from flows.__main__ import INTERRUPTED
from flows.logs import set_up, tell
from flows.store_commands import add_store_commands, takes_overrides

BROKEN_PIPE = 141  # what a shell makes of SIGPIPE
REMEDIES = {
    errno.ENOSPC: "make room on this disk",
    errno.EDQUOT: "make room within the quota of this disk",
    errno.EFBIG: "files may not grow so large here: see `ulimit -f`, or use another disk",
    errno.EROFS: "this disk is read-only: give a path on another",
    errno.EACCES: "give a path that you may use, or change its rights",
    errno.EPERM: "give a path that you may use, or change its rights",
}

log = logging.getLogger(__name__)

DESCRIPTION = """\
Valence and arousal, frame by frame, from video and sound.
Stage one encodes video and sound once into a feature store; stage two trains light heads on it.
"""
EPILOG = """\
exit status: 0 all done, 1 something could not be done (it is listed), 2 wrong input,
124 watched no longer (the run goes on), 130 interrupted, 143 ended by SIGTERM
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    arguments = _parsed(argv)
    if arguments.command is None:
        parser().print_help()
        return 2
    try:
        status = arguments.command(arguments)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # who reads, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Exception as error:
        from features.errors import VaflowError

        if isinstance(error, OSError) and error.filename is not None:
            remedy = REMEDIES.get(error.errno or 0, "see to this path")
            tell(
                f"vaflow: {error.filename}: {error.strerror}; {remedy}, and run the same again: "
                "what is done is kept"
            )
            return 1
        if not isinstance(error, VaflowError):
            raise
        tell(f"vaflow: {error}")
        return error.exit_status


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments; overrides may stand behind options, where argparse does not look for more."""
    whole = parser()
    arguments, rest = whole.parse_known_args(argv)
    takes = arguments.command is _run or takes_overrides(arguments.command)
    if rest and (not takes or any(word.startswith("-") for word in rest)):
        whole.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        arguments.overrides += rest
    return arguments


def parser() -> argparse.ArgumentParser:
    """The arguments of every command."""
    whole = argparse.ArgumentParser(
        prog="vaflow",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.set_defaults(command=None)
    commands = whole.add_subparsers(title="commands", metavar="COMMAND")

    demo = commands.add_parser("demo", help="everything on the rendered set, under data/demo/")
    demo.add_argument("--folder", type=Path, default=Path("data/demo"))
    demo.add_argument(
        "--control",
        choices=("labels", "face", "voice"),
        help="train with this taken away; the score must be near nothing",
    )
    _add_log_format(demo)
    demo.set_defaults(command=_demo)

    render = commands.add_parser("render", help="write the rendered set, in Aff-Wild2's shape")
    render.add_argument("folder", type=Path, metavar="DIR")
    render.add_argument("--clips", type=int, metavar="N", help="annotated people")
    render.add_argument("--seconds", type=float, metavar="S", help="about, per clip")
    render.add_argument("--seed", type=int, metavar="K")
    render.set_defaults(command=_render)

    index = commands.add_parser("index", help="write a manifest of a data set, and report")
    index.add_argument("dataset", metavar="DATASET", help="affwild2")
    index.add_argument("root", type=Path, metavar="ROOT")
    index.add_argument("-o", "--output", type=Path, required=True, metavar="MANIFEST")
    index.add_argument(
        "--max-rows-apart",
        type=int,
        metavar="N",
        help="how far the label rows and the frames of a clip may be apart (3)",
    )
    index.add_argument("--json", action="store_true", help="the report as JSON")
    index.set_defaults(command=_index)

    run = commands.add_parser(
        "run",
        help="run a stage: extract-features, train-head, train-ensemble, score-head, pipeline, "
        "baselines, ablate",
        description="Run a stage in this process. Keys: see configs/README.md.",
    )
    run.add_argument("stage", metavar="STAGE")
    run.add_argument("overrides", nargs="*", metavar="key=value")
    run.add_argument("-c", "--config", type=Path, metavar="CONFIG.yaml")
    run.add_argument(
        "--dry-run",
        action="store_true",
        help="extract-features: only tell what would be done, and why (dry_run=true)",
    )
    run.add_argument(
        "--only", nargs="+", default=(), metavar="CLIP", help="extract-features: these clips alone"
    )
    run.add_argument(
        "--failed",
        action="store_true",
        help="extract-features: only what is in quarantine, once more (failed=true)",
    )
    run.add_argument(
        "--force", action="store_true", help="again, though it is there already (force=true)"
    )
    _add_log_format(run)
    run.add_argument(
        "--metrics",
        type=Path,
        metavar="FILE.prom",
        help="keep the run's counts there, for the textfile collector of Prometheus",
    )
    run.add_argument(
        "--via", choices=("prefect",), help="make a run of the stage's deployment, and watch it"
    )
    run.add_argument(
        "--timeout",
        type=float,
        metavar="S",
        help="with --via: watch no longer than that; the run goes on (exit status 124)",
    )
    run.set_defaults(command=_run)

    serve = commands.add_parser(
        "serve", help="Prefect's server, a worker and all deployments, on this machine"
    )
    serve.add_argument("--port", type=_count, default=4200, help="4200, unless told")
    serve.add_argument(
        "--timeout",
        type=float,
        default=120.0,
        metavar="S",
        help="seconds that server and worker may each take to come up (120)",
    )
    serve.set_defaults(command=_serve)

    report = commands.add_parser("report", help="make a run's report again: one HTML file")
    report.add_argument("run", type=Path, metavar="RUN")
    report.add_argument("--split", default="val", metavar="SPLIT", help="val, unless told")
    report.add_argument("-o", "--output", type=Path, metavar="FILE", help="not RUN/report.html")
    report.add_argument("--manifest", type=Path, help="not that of the training")
    report.add_argument("--store", help="not that of the training")
    report.add_argument("--max-rows-apart", type=_count, metavar="N", help="not as in training")
    report.set_defaults(command=_report)

    sent = commands.add_parser("check-submission", help="compare a submission with its sample")
    sent.add_argument("file", type=Path, metavar="FILE")
    sent.add_argument(
        "--sample", type=Path, required=True, metavar="SAMPLE", help="the challenge's sample file"
    )
    sent.set_defaults(command=_check_submission)

    add_store_commands(commands)
    return whole


def _add_log_format(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--log-format",
        choices=("text", "json"),
        default="text",
        help="json: one object per line on stderr, and no progress bars",
    )


def _count(text: str) -> int:
    """The number, if it is 0 or above."""
    if (number := int(text)) < 0:
        raise ValueError(text)
    return number


def _demo(arguments: argparse.Namespace) -> int:
    if arguments.log_format == "json":  # in text, Prefect's own log is what one sees
        set_up("json")
    if arguments.control:
        from flows.controls import control

        return control(arguments.control, arguments.folder)
    from flows.demo import demo

    return demo(arguments.folder)


def _render(arguments: argparse.Namespace) -> int:
    from features import rendered

    clips = rendered.DEFAULT_CLIPS if arguments.clips is None else arguments.clips
    seconds = rendered.DEFAULT_SECONDS if arguments.seconds is None else arguments.seconds
    seed = rendered.DEFAULT_SEED if arguments.seed is None else arguments.seed
    from flows.counting import counting

    with counting("render") as on_clip:
        rendered.render(arguments.folder, clips=clips, seconds=seconds, seed=seed, on_clip=on_clip)
    print(f"render: {clips} clips of about {seconds:g} s, seed {seed}, in {arguments.folder}")
    return 0


def _index(arguments: argparse.Namespace) -> int:
    from features.datasets import dataset
    from features.datasets.base import described
    from features.manifest import write_manifest

    apart = arguments.max_rows_apart
    chosen = {} if apart is None else {"max_rows_apart": apart}
    indexed = dataset(arguments.dataset, arguments.root, **chosen).index(arguments.output.parent)
    if indexed.clips:
        write_manifest(arguments.output, indexed.clips)
    said = f"{len(indexed.clips)} clips in {arguments.output}"
    report = [json.dumps(indexed.as_json(), indent=2)] if arguments.json else described(indexed)
    print("\n".join(report))
    if not arguments.json:
        print(f"index: {said if indexed.clips else 'no clip is usable; no manifest was written'}")
    return 1 if indexed.left_out else 0


def _run(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from features.errors import InputError
    from flows.reports import describe
    from flows.settings import settings
    from flows.stages import complete_or_raise, hooks_of, stage
    from flows.watching import watching

    set_up(arguments.log_format)
    if arguments.via:
        from flows.via_prefect import run_and_watch

        if arguments.metrics:
            raise InputError(
                "--metrics keeps the counts of a run in this process; --via prefect makes one in "
                "a worker's; leave one of the two out"
            )
        overrides = _overrides(arguments)
        return run_and_watch(arguments.stage, arguments.config, overrides, arguments.timeout)
    function = stage(arguments.stage)
    keys = settings(function, arguments.config, _overrides(arguments))
    console = Console(highlight=False, soft_wrap=True, markup=False)
    metrics = None if keys.get("dry_run") else arguments.metrics  # which is no run of the stage
    with watching(arguments.stage, metrics) as hooks:
        result = function(**keys, **hooks_of(function, hooks))
        complete_or_raise(result)
    for said in describe(result):
        console.print(said)
        if isinstance(said, str):  # a table is for a person alone
            log.info("%s", said.strip())
    return 0


def _overrides(arguments: argparse.Namespace) -> list[str]:
    """All that was given of keys on the command line, options among them."""
    given = [*arguments.overrides, *(word for word in arguments.only if "=" in word)]
    if only := [word for word in arguments.only if "=" not in word]:
        given.append(f"only={json.dumps(only)}")
    for option in ("failed", "force", "dry_run"):
        if getattr(arguments, option):
            given.append(f"{option}=true")
    return given


def _serve(arguments: argparse.Namespace) -> int:
    from flows.serve import serve

    return serve(arguments.port, arguments.timeout)


def _report(arguments: argparse.Namespace) -> int:
    from models.report.writing import report

    path = report(
        arguments.run,
        split=arguments.split,
        output=arguments.output,
        manifest=arguments.manifest,
        store=arguments.store,
        max_rows_apart=arguments.max_rows_apart,
    )
    print(f"report: {path} shows the split {arguments.split}")
    return 0


def _check_submission(arguments: argparse.Namespace) -> int:
    from models.submission import counted, read_sample
    from models.submission_check import check

    sample = read_sample(arguments.sample)
    problems = check(arguments.file, sample)
    for problem in problems:
        print(problem)
    said = counted(problems, "problem") if problems else "nothing is wrong"
    rows = f"{counted(sample.locations, 'row')} of {counted(sample.clips, 'clip')}"
    print(f"check-submission: {arguments.file}: {said}; held to the {rows} of {arguments.sample}")
    return 1 if problems else 0
