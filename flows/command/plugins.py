"""The commands `vaflow plugins` and `vaflow check-plugin`."""

import argparse
import json
from typing import Any

from flows.terminal import print_lines


def add_plugin_commands(commands: Any) -> None:
    """Add both commands to the parser of `vaflow`."""
    listed = commands.add_parser("plugins", help="list the plug-ins that are installed")
    listed.add_argument("--json", action="store_true", help="the list as JSON")
    listed.set_defaults(command=_plugins)

    check = commands.add_parser(
        "check-plugin", help="run the contract tests of encoders on a plug-in, on a small video"
    )
    check.add_argument("name", metavar="NAME", help="the kind that the plug-in adds")
    check.add_argument("overrides", nargs="*", metavar="key=value", help="keys of its config")
    check.set_defaults(command=_check_plugin)


def _plugins(arguments: argparse.Namespace) -> int:
    from features.encoders import config_or_problem
    from features.plugins import ENCODERS, plugins

    rows: list[dict[str, str]] = []
    is_bad = False
    for plugin in plugins(ENCODERS):
        config = config_or_problem(plugin)
        problem = config if isinstance(config, str) else ""
        is_bad = is_bad or bool(problem)
        rows.append(
            {
                "group": plugin.group,
                "name": plugin.name,
                "distribution": plugin.distribution,
                "target": plugin.target,
                "modality": "" if isinstance(config, str) else config.modality,
                "problem": problem,
            }
        )
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return int(is_bad)
    for row in rows:
        state = f"cannot be used: {row['problem']}" if row["problem"] else row["modality"]
        print_lines(f"{row['name']} ({row['distribution']}, {row['target']}): {state}")
    if not rows:
        print_lines(f"no plug-in is installed: no distribution has entry points of {ENCODERS!r}")
    return int(is_bad)


def _check_plugin(arguments: argparse.Namespace) -> int:
    from features.extraction.encoder_contract import check_encoder

    config = _config_of(arguments.name, arguments.overrides)
    checks = check_encoder(config)
    for check in checks:
        print_lines(
            f"  broken: {check.rule}: {check.problem}" if check.problem else f"  ok: {check.rule}"
        )
    if checks[-1].problem:
        print_lines(f"check-plugin: {arguments.name} breaks the contract; correct it and run again")
        return 1
    print_lines(f"check-plugin: {arguments.name} keeps the contract ({len(checks)} rules)")
    return 0


def _config_of(name: str, overrides: list[str]) -> Any:
    """The config of a plug-in with keys of the command line."""
    import yaml
    from pydantic import ValidationError

    from features.config_errors import describe
    from features.encoder_kinds import plugin_config
    from features.errors import InputError
    from features.plugins import ENCODERS, plugins

    installed = {plugin.name: plugin for plugin in plugins(ENCODERS)}
    if name not in installed:
        found = ", ".join(installed) or "none"
        raise InputError(
            f"there is no plug-in {name!r}; those that are installed are: {found}. A plug-in is a "
            f"distribution with an entry point {name!r} in the group {ENCODERS!r}"
        )
    if wrong := [word for word in overrides if "=" not in word]:
        raise InputError(f"{wrong[0]!r} is no key=value")
    config = plugin_config(installed[name])
    keys = dict(word.split("=", 1) for word in overrides)
    try:
        return config.model_validate({key: yaml.safe_load(text) for key, text in keys.items()})
    except ValidationError as error:
        raise InputError(f"check-plugin {name}: {describe(error, config)}") from None
    except yaml.YAMLError as error:
        raise InputError(f"check-plugin {name}: a value is no YAML ({error})") from None
