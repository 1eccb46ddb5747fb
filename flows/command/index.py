"""The command `vaflow index`: its arguments and its output."""

import argparse
import json
from pathlib import Path
from typing import Any

from features.errors import InputError
from flows.terminal import print_lines


def add_index_command(commands: Any) -> None:
    """Add `index` to the command line."""
    index = commands.add_parser("index", help="write a manifest of a data set, and report")
    index.add_argument("dataset", metavar="DATASET", help="its kind, such as affwild2 or table")
    index.add_argument("root", type=Path, metavar="ROOT", help="its folder, or its table")
    index.add_argument("overrides", nargs="*", metavar="key=value", help="keys of the data set")
    index.add_argument("-o", "--output", type=Path, required=True, metavar="MANIFEST")
    index.add_argument(
        "-c", "--config", type=Path, metavar="FILE.yaml", help="a file of keys of the data set"
    )
    index.add_argument(
        "--media",
        type=Path,
        metavar="DIR",
        help="the folder of the media (media=DIR), for `table`, `series` and others",
    )
    index.add_argument(
        "--allow-outside",
        type=Path,
        action="append",
        metavar="ROOT",
        help="a folder outside the manifest's whose files the manifest may name; may be repeated",
    )
    index.add_argument(
        "--max-length-mismatch",
        type=int,
        metavar="N",
        help="label rows more or fewer than frames that a clip may have (3)",
    )
    index.add_argument("--json", action="store_true", help="the report as JSON")
    index.set_defaults(command=_index)


def _index(arguments: argparse.Namespace) -> int:
    from features.datasets import dataset
    from features.datasets.base import render_index, write_index

    options = {
        name: getattr(arguments, name) for name in ("media", "allow_outside", "max_length_mismatch")
    }
    keys = read_keys(arguments.config, arguments.overrides)
    keys |= {name: value for name, value in options.items() if value is not None}
    config = dataset(arguments.dataset, arguments.root, **keys)
    indexed = config.index(arguments.output.parent)
    if indexed.clips:
        write_index(arguments.output, indexed, config)
    if arguments.json:
        print(json.dumps(indexed.as_json(), indent=2))
    else:
        written = f"{len(indexed.clips)} clips in {arguments.output}"
        end = written if indexed.clips else "no clip is usable; no manifest was written"
        print_lines(*render_index(indexed), f"index: {end}")
    return 1 if indexed.left_out else 0


def read_keys(config: Path | None, overrides: list[str]) -> dict[str, Any]:
    """The keys in a YAML file, changed by `key=value` and `key.inner=value`."""
    keys: Any = _parse(config.read_text(encoding="utf-8"), str(config)) if config else {}
    if not isinstance(keys, dict):
        raise InputError(f"the config {config} must hold keys and values, such as `rate_hz: 25`")
    for override in overrides:
        key, equals, text = override.partition("=")
        if not (equals and key):
            raise InputError(f"{override!r} is no override; write key=value, such as rate_hz=25")
        *outer, last = key.split(".")
        node = keys
        for part in outer:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise InputError(f"{key}: {part!r} holds {node!r}, which has no keys")
        node[last] = _parse(text, override)
    return keys


def _parse(text: str, source: str) -> Any:
    import yaml

    from features.config_errors import describe_yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{source} is not YAML: {describe_yaml(error)}") from None
