"""The command `predict`: the stage of the same name, with a run and videos as arguments."""

import argparse
import os
from pathlib import Path
from typing import Any

from features.errors import InputError
from flows.command.predict_live import add_live_options, predict_live
from flows.command.run import add_log_format, run_stage
from flows.logs import set_up
from flows.stage_functions import stage_function


def add_predict_command(commands: Any) -> None:
    """Add `predict`, which is short for `run predict`."""
    predict = commands.add_parser(
        "predict",
        help="predict valence and arousal of any videos",
        description="Predict valence and arousal of any videos with a trained run. `vaflow run "
        "predict --help` lists more keys, which key=value sets here, too.",
    )
    predict.add_argument(
        "overrides",
        nargs="*",
        metavar="RUN VIDEO",
        help="folder of a run (left out with --zero-shot), then files, folders and patterns",
    )
    predict.add_argument(
        "-o", "--output", type=Path, metavar="OUT", help="folder (not with --live)"
    )
    predict.add_argument(
        "-c", "--config", type=Path, metavar="CONFIG.yaml", help="encoders and other keys"
    )
    predict.add_argument("--store", metavar="STORE", help="default: OUT/features.zarr")
    predict.add_argument("--format", choices=("csv", "parquet", "json"), default=None)
    predict.add_argument(
        "--frames",
        choices=("faces", "whole"),
        help="encode the faces that are found (default), or whole frames",
    )
    predict.add_argument(
        "--people", help="how many of a video: all (default), largest, or a number"
    )
    predict.add_argument("--overlay", action="store_true", help="also write videos to look at")
    predict.add_argument(
        "--zero-shot",
        action="store_true",
        help="predict from the region texts alone: no RUN, and the encoders in CONFIG.yaml",
    )
    predict.add_argument(
        "--affine",
        type=Path,
        metavar="zero_shot.json",
        help="with --zero-shot: match values as `run zero-shot` did on labelled clips",
    )
    predict.add_argument("--device", help="default: auto, which takes the GPU if there is one")
    predict.add_argument("--force", action="store_true", help="do again what is up to date")
    add_live_options(predict)
    add_log_format(predict)
    predict.set_defaults(command=_predict)


def _predict(arguments: argparse.Namespace) -> int:
    from flows.keys.settings import settings

    set_up(arguments.log_format)
    overrides = [word for word in arguments.overrides if _is_override(word)]
    words = [word for word in arguments.overrides if not _is_override(word)]
    if arguments.live is not None:
        return predict_live(
            arguments, words, [*overrides, *_short(arguments, "frames people device")]
        )
    if arguments.follow is not None or arguments.no_drop:
        raise InputError("--follow and --no-drop are of a stream: give it with --live SOURCE")
    if arguments.output is None:
        raise InputError("predict needs a folder to write to: -o OUT (or a stream: --live SOURCE)")
    run, videos = (None, words) if arguments.zero_shot else (words[:1] or None, words[1:])
    if not videos:
        raise InputError("predict needs a RUN and videos: vaflow predict RUN VIDEO... -o OUT")
    overrides += ["videos=[]", "output=."]
    overrides += _short(arguments, "format frames people device")
    overrides += [f"{key}=true" for key in ("overlay", "force") if getattr(arguments, key)]
    keys = settings(stage_function("predict"), arguments.config, overrides)
    # set here and not as overrides: a path need not be YAML, and a config's run is another one
    keys |= {"videos": tuple(videos), "zero_shot": arguments.zero_shot}
    keys |= {"output": arguments.output, "store": arguments.store or keys["store"]}
    keys["run"] = Path(run[0]) if run else None
    keys["affine"] = arguments.affine or keys.get("affine")
    return run_stage("predict", keys, None)


def _short(arguments: argparse.Namespace, keys: str) -> list[str]:
    """The overrides that options are short for."""
    given = {key: getattr(arguments, key) for key in keys.split()}
    return [f"{key}={value}" for key, value in given.items() if value]


def _is_override(word: str) -> bool:
    """Whether an argument sets a key of the stage, and is no path."""
    from flows.keys.signature import keys_of

    key = word.partition("=")[0].partition(".")[0]
    if "=" not in word or key not in keys_of(stage_function("predict")):
        return False
    return not os.path.exists(word)
