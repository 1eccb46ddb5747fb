"""The commands `run` and `serve`: their arguments and their output."""

import argparse
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from textwrap import wrap
from typing import Any

from features.errors import InputError
from flows.command.multirun import check_single, multirun
from flows.logs import is_json, set_up
from flows.stage_functions import STAGES, stage_function, stage_name
from flows.terminal import print_lines

WIDTH = 100  # columns of the help of a stage
INDENT = " " * 6

log = logging.getLogger(__name__)


class _StageHelp(argparse.Action):
    """`run --help` lists the stages; `run STAGE --help` lists the keys of the stage."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Print the help and end the command."""
        if stage := getattr(namespace, "stage", None):
            print("\n".join(_stage_help(stage_name(stage.partition("/")[0]))))
        else:
            parser.print_help()
        parser.exit()


def _stage_help(name: str) -> Iterator[str]:
    from flows.keys.schema import stage_schema

    yield f"usage: vaflow run {name} [-c CONFIG.yaml] [key=value ...] [options]"
    yield ""
    yield f"{name}: {STAGES[name]}."
    yield "Options: see `vaflow run --help`."
    section = None
    for key in stage_schema(stage_function(name)):
        if key.section != section:
            section = key.section
            yield ""
            yield f"{section or 'keys'}:"
        default = "required" if key.default is None else f"default {key.default}"
        yield f"  {key.name}: {key.type}; {default}"
        yield from wrap(key.help, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT)


def add_run_commands(commands: Any) -> None:
    """Add `run` and `serve` to the command line."""
    stages = "\n".join(f"  {name:<18}{text}" for name, text in STAGES.items())
    run = commands.add_parser(
        "run",
        help=f"run a stage: {', '.join(STAGES)}",
        description="Run a stage in this process. `vaflow run STAGE --help` lists its keys.",
        epilog=f"stages:\n{stages}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    run.add_argument(
        "-h", "--help", nargs=0, action=_StageHelp, help="show this help, or a stage's"
    )
    run.add_argument("stage", metavar="STAGE")
    run.add_argument("overrides", nargs="*", metavar="key=value")
    run.add_argument("-c", "--config", type=Path, metavar="CONFIG.yaml")
    run.add_argument(
        "--dry-run",
        action="store_true",
        help="extract-features: report what would be done, and why (dry_run=true)",
    )
    run.add_argument(
        "--only", nargs="+", default=(), metavar="CLIP", help="extract-features: only these clips"
    )
    run.add_argument(
        "--failed",
        action="store_true",
        help="extract-features: only the clips in quarantine (failed=true)",
    )
    run.add_argument(
        "--force", action="store_true", help="run again even if the result exists (force=true)"
    )
    run.add_argument(
        "-m",
        "--multirun",
        action="store_true",
        help="train-head: a run with every combination of values, such as train.seed=0,1,2",
    )
    run.add_argument(
        "--workers",
        type=_positive,
        metavar="N",
        help="with --multirun: trainings at once (default: one per core)",
    )
    add_log_format(run)
    run.add_argument(
        "--metrics",
        type=Path,
        metavar="FILE.prom",
        help="write metrics of the run for the textfile collector of Prometheus",
    )
    run.add_argument(
        "--via", choices=("prefect",), help="start a run of the stage's deployment, and watch it"
    )
    run.add_argument(
        "--timeout",
        type=float,
        metavar="S",
        help="with --via: stop watching after this time; the run goes on (exit status 124)",
    )
    run.set_defaults(command=_run)

    serve = commands.add_parser(
        "serve", help="run Prefect's server, a worker and all deployments on this machine"
    )
    serve.add_argument("--port", type=non_negative, default=4200, help="default: 4200")
    serve.add_argument(
        "--timeout",
        type=float,
        default=120.0,
        metavar="S",
        help="seconds that server and worker may each take to start (default: 120)",
    )
    serve.set_defaults(command=_serve)


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError(text)
    return number


def non_negative(text: str) -> int:
    """The number; raises `ValueError` if it is below 0."""
    if (number := int(text)) < 0:
        raise ValueError(text)
    return number


def add_log_format(command: argparse.ArgumentParser) -> None:
    """Add `--log-format` to a command."""
    command.add_argument(
        "--log-format",
        choices=("text", "json"),
        default="text",
        help="json: one object per line on stderr, and no progress bars",
    )


def _run(arguments: argparse.Namespace) -> int:
    from flows.keys.settings import check_key_names, settings

    set_up(arguments.log_format)
    if arguments.timeout is not None and not arguments.via:
        raise InputError("--timeout limits how long a run is watched: give --via prefect, too")
    overrides = _overrides(arguments)
    stage = stage_name(arguments.stage.partition("/")[0] if arguments.via else arguments.stage)
    check_key_names(overrides)
    if arguments.multirun:
        return _run_grid(stage, arguments, overrides)
    if arguments.workers:
        raise InputError("--workers is for --multirun; of a stage it is a key: workers=N")
    check_single(overrides)
    if arguments.via:
        from flows.server.deployment_run import run_and_watch

        if arguments.metrics:
            raise InputError(
                "--metrics counts a run in this process, and --via prefect runs the stage in a "
                "worker's; leave one of the two out"
            )
        return run_and_watch(arguments.stage, arguments.config, overrides, arguments.timeout)
    keys = settings(stage_function(stage), arguments.config, overrides)
    return run_stage(stage, keys, arguments.metrics)


def _run_grid(stage: str, arguments: argparse.Namespace, overrides: list[str]) -> int:
    if stage != "train-head" or arguments.via or arguments.metrics:
        raise InputError(
            "--multirun is for train-head in this process: it goes with no other stage, and "
            "neither with --via nor with --metrics"
        )
    return _run_function(stage, multirun(arguments.config, overrides, arguments.workers), {}, None)


def run_stage(stage: str, keys: dict[str, Any], metrics_file: Path | None) -> int:
    """Run a stage with its progress, and print its result."""
    return _run_function(stage, stage_function(stage), keys, metrics_file)


def _run_function(
    stage: str, function: Callable[..., Any], keys: dict[str, Any], metrics_file: Path | None
) -> int:
    from flows.console import plain_console
    from flows.keys.signature import hooks_of
    from flows.messages import describe
    from flows.stages import raise_if_incomplete

    metrics = None if keys.get("dry_run") else metrics_file  # a dry run has no metrics
    with _progress_hooks(stage, metrics) as hooks:
        result = function(**keys, **hooks_of(function, hooks))
        raise_if_incomplete(result)
    console = plain_console()
    for text in describe(result):
        if isinstance(text, str):  # not the tables
            print_lines(text)
            log.info("%s", text.strip())
        else:
            console.print(text)
    return 0


@contextmanager
def _progress_hooks(stage: str, metrics: Path | None) -> Iterator[dict[str, Callable[..., None]]]:
    """Hooks that show the progress of a stage on a terminal or in the log, and write its metrics.

    An exception inside the context counts as a failed run. Raises `InputError` or `VaflowError` if
    the metrics file cannot be written.
    """
    from flows.console import plain_console
    from flows.progress import log_hooks, terminal_hooks

    with ExitStack() as stack:
        hooks: list[dict[str, Callable[..., None]]] = []
        if metrics:
            from flows.command.prometheus import recording

            hooks.append(stack.enter_context(recording(metrics, stage)).hooks())
        if is_json():
            hooks.append(log_hooks(log))
        else:
            hooks.append(stack.enter_context(terminal_hooks(plain_console(stderr=True))))
        log.info("%s begins", stage, extra={"stage": stage})
        yield merge_hooks(hooks)


def merge_hooks(hooks: Sequence[dict[str, Callable[..., None]]]) -> dict[str, Callable[..., None]]:
    """Hooks that each call all hooks of the same name."""

    def call_all(name: str) -> Callable[..., None]:
        def hook(*arguments: object) -> None:
            for each in hooks:
                if name in each:
                    each[name](*arguments)

        return hook

    return {name: call_all(name) for each in hooks for name in each}


def _overrides(arguments: argparse.Namespace) -> list[str]:
    """The overrides on the command line, including the options that are short for keys."""
    overrides = [*arguments.overrides, *(word for word in arguments.only if "=" in word)]
    if only := [word for word in arguments.only if "=" not in word]:
        overrides.append(f"only={json.dumps(only)}")
    given = vars(arguments)
    return overrides + [f"{key}=true" for key in ("failed", "force", "dry_run") if given[key]]


def _serve(arguments: argparse.Namespace) -> int:
    from flows.server.serve import serve

    return serve(arguments.port, arguments.timeout)
