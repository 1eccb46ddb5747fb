"""The command `vaflow`. A command imports what it needs when it runs."""

import argparse
import errno
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

from features.errors import VaflowError
from features.printable import printable
from flows.command.compare import add_compare_command
from flows.command.export_head import add_export_head_command
from flows.command.import_features import add_import_features_command
from flows.command.index import add_index_command
from flows.command.plugins import add_plugin_commands
from flows.command.predict import add_predict_command
from flows.command.run import add_log_format, add_run_commands, non_negative
from flows.command.runs import add_runs_command
from flows.command.store import add_store_commands
from flows.logs import print_message, set_up
from flows.terminal import BROKEN_PIPE, INTERRUPTED, print_lines

REMEDIES = {
    errno.ENOSPC: "make room on this disk",
    errno.EDQUOT: "make room within the quota of this disk",
    errno.EFBIG: "files cannot grow so large here: see `ulimit -f`, or use another disk",
    errno.EROFS: "this disk is read-only: give a path on another",
    errno.EACCES: "give a path that you may use, or change its rights",
    errno.EPERM: "give a path that you may use, or change its rights",
}

OLD_OPTIONS = {"--max-rows-apart": "--max-length-mismatch"}

DESCRIPTION = """\
Valence and arousal, frame by frame, from video and sound.
Stage one encodes video and sound once into a feature store; stage two trains light heads on it.
"""
EPILOG = """\
exit status: 0 all done, 1 something could not be done (it is listed), 2 wrong input,
124 --timeout passed (the run goes on), 130 interrupted, 141 output closed, 143 ended by SIGTERM
"""


class _Parser(argparse.ArgumentParser):
    """A parser whose help fails like any output if its reader has closed the pipe."""

    def print_help(self, file: Any = None) -> None:
        """Print the help; argparse itself ignores every `OSError`."""
        print(self.format_help(), end="", file=file)

    def error(self, message: str) -> NoReturn:
        """Print the usage and the message, in which words from outside are escaped, and exit."""
        super().error(printable(message, layout=""))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    try:
        arguments = _parse(argv)
        if arguments.command is None:
            parser().print_help()
            return 2
        return arguments.command(arguments)
    except KeyboardInterrupt as stop:
        if stop.args:  # a training says what it has saved
            print_message(f"vaflow: {stop}")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of the output, such as `head`, has closed it
        return BROKEN_PIPE
    except VaflowError as error:
        print_message(f"vaflow: {error}")
        return error.exit_status
    except OSError as error:
        if error.filename is None and error.errno not in REMEDIES:
            raise
        path = printable(str(error.filename or "standard output, or a file"), layout="")
        remedy = REMEDIES.get(error.errno or 0, "check this path")
        print_message(
            f"vaflow: {path}: {error.strerror}; {remedy}, and run the same again: "
            "what is done is kept"
        )
        return 1


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments; unlike in plain argparse, overrides may also follow an option."""
    command_line = parser()
    arguments, rest = command_line.parse_known_args(argv)
    for word in rest:
        if new := OLD_OPTIONS.get(word.partition("=")[0]):
            command_line.error(f"{word} is now called {new}")
    if rest and ("overrides" not in arguments or any(word.startswith("-") for word in rest)):
        command_line.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        arguments.overrides += rest
    return arguments


def parser() -> argparse.ArgumentParser:
    """The arguments of every command."""
    command_line = _Parser(
        prog="vaflow",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command_line.set_defaults(command=None)
    command_line.add_argument("--version", action="version", version=f"vaflow {version('vaflow')}")
    commands = command_line.add_subparsers(title="commands", metavar="COMMAND")

    demo = commands.add_parser("demo", help="run all stages on a rendered set, under data/demo/")
    demo.add_argument("--folder", type=Path, default=Path("data/demo"))
    demo.add_argument(
        "--control",
        choices=("labels", "face", "voice"),
        help="train with these shuffled or removed; the score must be near 0",
    )
    add_log_format(demo)
    demo.set_defaults(command=_demo)

    render = commands.add_parser(
        "render", help="write the rendered set, in the layout of Aff-Wild2"
    )
    render.add_argument("folder", type=Path, metavar="DIR")
    render.add_argument("--clips", type=int, metavar="N", help="annotated subjects")
    render.add_argument("--seconds", type=float, metavar="S", help="approximate length of a clip")
    render.add_argument("--seed", type=int, metavar="K")
    render.set_defaults(command=_render)

    add_index_command(commands)
    add_import_features_command(commands)
    add_predict_command(commands)
    add_run_commands(commands)

    report = commands.add_parser("report", help="write the report of a run again, as one HTML file")
    report.add_argument("run", type=Path, metavar="RUN")
    report.add_argument("--split", default="val", metavar="SPLIT", help="default: val")
    report.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="default: RUN/report.html"
    )
    report.add_argument("--manifest", type=Path, help="default: that of the training")
    report.add_argument("--store", help="default: that of the training")
    report.add_argument(
        "--max-length-mismatch", type=non_negative, metavar="N", help="default: as in the training"
    )
    report.add_argument(
        "--thumbnails",
        choices=("crops", "all", "none"),
        default="crops",
        help="pictures of the frames of clips that have face crops, of all clips, whose videos are "
        "decoded for it, or of none; default: crops",
    )
    report.add_argument(
        "--baselines",
        type=Path,
        metavar="FILE",
        help="scores that `run baselines output=FILE` wrote; default: RUN/baselines.json, if any",
    )
    report.set_defaults(command=_report)

    add_runs_command(commands)
    add_compare_command(commands)

    check = commands.add_parser("check-submission", help="compare a submission with its sample")
    check.add_argument("file", type=Path, metavar="FILE")
    check.add_argument(
        "--sample", type=Path, required=True, metavar="SAMPLE", help="the challenge's sample file"
    )
    check.set_defaults(command=_check_submission)

    add_export_head_command(commands)
    add_store_commands(commands)
    add_plugin_commands(commands)
    return command_line


def _demo(arguments: argparse.Namespace) -> int:
    if arguments.log_format == "json":  # in text, Prefect's own log is shown
        set_up("json")
    if arguments.control:
        from flows.demo.controls import control

        return control(arguments.control, arguments.folder)
    from flows.demo.demo import demo

    return demo(arguments.folder)


def _render(arguments: argparse.Namespace) -> int:
    from features import synthetic
    from flows.progress import progress_bar

    clips = synthetic.DEFAULT_CLIPS if arguments.clips is None else arguments.clips
    seconds = synthetic.DEFAULT_SECONDS if arguments.seconds is None else arguments.seconds
    seed = synthetic.DEFAULT_SEED if arguments.seed is None else arguments.seed
    with progress_bar("render") as on_clip:
        synthetic.render(arguments.folder, clips=clips, seconds=seconds, seed=seed, on_clip=on_clip)
    print_lines(f"render: {clips} clips of about {seconds:g} s, seed {seed}, in {arguments.folder}")
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from models.stages.report import report

    path = report(
        arguments.run,
        split=arguments.split,
        output=arguments.output,
        manifest=arguments.manifest,
        store=arguments.store,
        max_length_mismatch=arguments.max_length_mismatch,
        thumbnails=arguments.thumbnails,
        baselines=arguments.baselines,
    )
    print_lines(f"report: {path} shows the split {arguments.split}")
    return 0


def _check_submission(arguments: argparse.Namespace) -> int:
    from models.submission.check import check
    from models.submission.format import count, read_sample

    sample = read_sample(arguments.sample)
    problems = check(arguments.file, sample)
    for problem in problems:
        print_lines(str(problem))
    result = count(problems, "problem") if problems else "nothing is wrong"
    rows = f"{count(sample.locations, 'row')} of {count(sample.clips, 'clip')}"
    print_lines(
        f"check-submission: {arguments.file}: {result}; compared with the {rows} of "
        f"{arguments.sample}"
    )
    return 1 if problems else 0
