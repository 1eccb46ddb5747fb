"""The commands that run stages: their arguments, and what they print."""

import argparse
import json
import logging
from pathlib import Path
from typing import Any

from flows.logs import set_up

log = logging.getLogger(__name__)


def add_run_commands(commands: Any) -> None:
    """Tell the command line of run and serve."""
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
    add_log_format(run)
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
    serve.add_argument("--port", type=count, default=4200, help="4200, unless told")
    serve.add_argument(
        "--timeout",
        type=float,
        default=120.0,
        metavar="S",
        help="seconds that server and worker may each take to come up (120)",
    )
    serve.set_defaults(command=_serve)


def count(text: str) -> int:
    """The number, if it is 0 or above."""
    if (number := int(text)) < 0:
        raise ValueError(text)
    return number


def add_log_format(command: argparse.ArgumentParser) -> None:
    """Tell a command of `--log-format`."""
    command.add_argument(
        "--log-format",
        choices=("text", "json"),
        default="text",
        help="json: one object per line on stderr, and no progress bars",
    )


def _run(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from features.errors import InputError
    from flows.command.progress_hooks import progress_hooks
    from flows.messages import describe
    from flows.settings import settings
    from flows.stage_keys import hooks_of
    from flows.stages import raise_if_incomplete, stage_function

    set_up(arguments.log_format)
    if arguments.timeout is not None and not arguments.via:
        raise InputError("--timeout says how long to watch a run: give --via prefect with it")
    if arguments.via:
        from flows.server.deployment_run import run_and_watch

        if arguments.metrics:
            raise InputError(
                "--metrics keeps the counts of a run in this process; --via prefect makes one in "
                "a worker's; leave one of the two out"
            )
        overrides = _overrides(arguments)
        return run_and_watch(arguments.stage, arguments.config, overrides, arguments.timeout)
    function = stage_function(arguments.stage)
    keys = settings(function, arguments.config, _overrides(arguments))
    console = Console(highlight=False, soft_wrap=True, markup=False)
    metrics = None if keys.get("dry_run") else arguments.metrics  # which is no run of the stage
    with progress_hooks(arguments.stage, metrics) as hooks:
        result = function(**keys, **hooks_of(function, hooks))
        raise_if_incomplete(result)
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
    from flows.server.serve import serve

    return serve(arguments.port, arguments.timeout)
