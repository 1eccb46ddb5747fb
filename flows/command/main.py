"""The command `vaflow`. What it does not need for a call it does not import."""

import argparse
import errno
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from flows.command.exit_status import INTERRUPTED
from flows.command.run import add_log_format, add_run_commands, count
from flows.command.store import add_store_commands
from flows.logs import print_message, set_up

BROKEN_PIPE = 141  # what a shell makes of SIGPIPE
REMEDIES = {
    errno.ENOSPC: "make room on this disk",
    errno.EDQUOT: "make room within the quota of this disk",
    errno.EFBIG: "files may not grow so large here: see `ulimit -f`, or use another disk",
    errno.EROFS: "this disk is read-only: give a path on another",
    errno.EACCES: "give a path that you may use, or change its rights",
    errno.EPERM: "give a path that you may use, or change its rights",
}

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
            print_message(
                f"vaflow: {error.filename}: {error.strerror}; {remedy}, and run the same again: "
                "what is done is kept"
            )
            return 1
        if not isinstance(error, VaflowError):
            raise
        print_message(f"vaflow: {error}")
        return error.exit_status


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments; overrides may stand behind options, where argparse does not look for more."""
    whole = parser()
    arguments, rest = whole.parse_known_args(argv)
    if rest and ("overrides" not in arguments or any(word.startswith("-") for word in rest)):
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
    add_log_format(demo)
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
        "--max-length-mismatch",
        type=int,
        metavar="N",
        help="how far the label rows and the frames of a clip may be apart (3)",
    )
    index.add_argument("--json", action="store_true", help="the report as JSON")
    index.set_defaults(command=_index)

    add_run_commands(commands)

    report = commands.add_parser("report", help="make a run's report again: one HTML file")
    report.add_argument("run", type=Path, metavar="RUN")
    report.add_argument("--split", default="val", metavar="SPLIT", help="val, unless told")
    report.add_argument("-o", "--output", type=Path, metavar="FILE", help="not RUN/report.html")
    report.add_argument("--manifest", type=Path, help="not that of the training")
    report.add_argument("--store", help="not that of the training")
    report.add_argument("--max-length-mismatch", type=count, metavar="N", help="not as in training")
    report.set_defaults(command=_report)

    sent = commands.add_parser("check-submission", help="compare a submission with its sample")
    sent.add_argument("file", type=Path, metavar="FILE")
    sent.add_argument(
        "--sample", type=Path, required=True, metavar="SAMPLE", help="the challenge's sample file"
    )
    sent.set_defaults(command=_check_submission)

    add_store_commands(commands)
    return whole


def _demo(arguments: argparse.Namespace) -> int:
    if arguments.log_format == "json":  # in text, Prefect's own log is what one sees
        set_up("json")
    if arguments.control:
        from flows.demo.controls import control

        return control(arguments.control, arguments.folder)
    from flows.demo.demo import demo

    return demo(arguments.folder)


def _render(arguments: argparse.Namespace) -> int:
    from features import synthetic as rendered

    clips = rendered.DEFAULT_CLIPS if arguments.clips is None else arguments.clips
    seconds = rendered.DEFAULT_SECONDS if arguments.seconds is None else arguments.seconds
    seed = rendered.DEFAULT_SEED if arguments.seed is None else arguments.seed
    from flows.progress import progress_bar

    with progress_bar("render") as on_clip:
        rendered.render(arguments.folder, clips=clips, seconds=seconds, seed=seed, on_clip=on_clip)
    print(f"render: {clips} clips of about {seconds:g} s, seed {seed}, in {arguments.folder}")
    return 0


def _index(arguments: argparse.Namespace) -> int:
    from features.datasets import dataset
    from features.datasets.base import render_index
    from features.manifest.manifest import write_manifest

    apart = arguments.max_length_mismatch
    chosen = {} if apart is None else {"max_length_mismatch": apart}
    indexed = dataset(arguments.dataset, arguments.root, **chosen).index(arguments.output.parent)
    if indexed.clips:
        write_manifest(arguments.output, indexed.clips)
    said = f"{len(indexed.clips)} clips in {arguments.output}"
    report = [json.dumps(indexed.as_json(), indent=2)] if arguments.json else render_index(indexed)
    print("\n".join(report))
    if not arguments.json:
        print(f"index: {said if indexed.clips else 'no clip is usable; no manifest was written'}")
    return 1 if indexed.left_out else 0


def _report(arguments: argparse.Namespace) -> int:
    from models.stages.report import report

    path = report(
        arguments.run,
        split=arguments.split,
        output=arguments.output,
        manifest=arguments.manifest,
        store=arguments.store,
        max_length_mismatch=arguments.max_length_mismatch,
    )
    print(f"report: {path} shows the split {arguments.split}")
    return 0


def _check_submission(arguments: argparse.Namespace) -> int:
    from models.submission.check import check
    from models.submission.format import count, read_sample

    sample = read_sample(arguments.sample)
    problems = check(arguments.file, sample)
    for problem in problems:
        print(problem)
    said = count(problems, "problem") if problems else "nothing is wrong"
    rows = f"{count(sample.locations, 'row')} of {count(sample.clips, 'clip')}"
    print(f"check-submission: {arguments.file}: {said}; held to the {rows} of {arguments.sample}")
    return 1 if problems else 0
