"""The commands `vaflow plugins` and `vaflow check-plugin`."""

import argparse
import json
from functools import partial
from typing import TYPE_CHECKING, Any

from flows.terminal import print_lines

if TYPE_CHECKING:
    from features.plugins import Check, Plugin


def add_plugin_commands(commands: Any) -> None:
    """Add both commands to the parser of `vaflow`."""
    listed = commands.add_parser("plugins", help="list the plug-ins that are installed")
    listed.add_argument("--json", action="store_true", help="the list as JSON")
    listed.set_defaults(command=_plugins)

    check = commands.add_parser(
        "check-plugin",
        help="check a plug-in against the contract of its kind, on a small sample",
    )
    check.add_argument("name", metavar="NAME", help="the kind that the plug-in adds")
    check.add_argument("overrides", nargs="*", metavar="key=value", help="keys of its config")
    check.add_argument(
        "--group", metavar="GROUP", help="such as vaflow.heads, if two plug-ins have one name"
    )
    check.set_defaults(command=_check_plugin)


def _plugins(arguments: argparse.Namespace) -> int:
    from features.plugins import GROUPS, config_or_problem, plugins

    rows: list[dict[str, str]] = []
    for plugin in (plugin for group in GROUPS for plugin in plugins(group)):
        config = config_or_problem(plugin, _config_class)
        problem = config if isinstance(config, str) else ""
        rows.append(
            {
                "group": plugin.group,
                "name": plugin.name,
                "distribution": plugin.distribution,
                "target": plugin.target,
                "modality": "" if problem else getattr(config, "modality", ""),
                "problem": problem,
            }
        )
    is_bad = any(row["problem"] for row in rows)
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return int(is_bad)
    for row in rows:
        state = f"{row['modality']} {GROUPS[row['group']]}".strip()
        if row["problem"]:
            state = f"cannot be used: {row['problem']}"
        print_lines(f"{row['name']} ({row['distribution']}, {row['target']}): {state}")
    if not rows:
        groups = ", ".join(GROUPS)
        print_lines(f"no plug-in is installed: no distribution has entry points of {groups}")
    return int(is_bad)


def _check_plugin(arguments: argparse.Namespace) -> int:
    plugin = _find(arguments.name, arguments.group)
    checks = _checks(plugin, _config(plugin, arguments.overrides))
    for check in checks:
        print_lines(
            f"  broken: {check.rule}: {check.problem}" if check.problem else f"  ok: {check.rule}"
        )
    if checks[-1].problem:
        print_lines(f"check-plugin: {plugin.name} breaks the contract; correct it and run again")
        return 1
    print_lines(f"check-plugin: {plugin.name} keeps the contract ({len(checks)} rules)")
    return 0


def _config_class(plugin: "Plugin") -> Any:
    """The config class of a plug-in; raises `InputError` if it cannot be used."""
    from features import datasets, encoder_kinds, faces
    from features.plugins import DATASETS, DETECTORS, ENCODERS, class_problem, config_class
    from models.heads import OWN
    from models.heads.config import HeadConfig

    if plugin.group == ENCODERS:
        return encoder_kinds.plugin_config(plugin)
    if plugin.group == DATASETS:
        return datasets.plugin_config(plugin)
    if plugin.group == DETECTORS:
        return faces.plugin_config(plugin)
    own = {each.model_fields["kind"].default for each in OWN}
    return config_class(plugin, partial(class_problem, base=HeadConfig, own=own))


def _checks(plugin: "Plugin", config: Any) -> "tuple[Check, ...]":
    """The contract of the plug-in's group; each imports large libraries."""
    from features.plugins import DATASETS, DETECTORS, ENCODERS

    if plugin.group == ENCODERS:
        from features.extraction.encoder_contract import check_encoder

        return check_encoder(config)
    if plugin.group == DATASETS:
        from features.datasets.contract import check_dataset

        return check_dataset(config)
    if plugin.group == DETECTORS:
        from features.extraction.detector_contract import check_detector

        return check_detector(config)
    from models.runs.head_contract import check_head

    return check_head(config)


def _find(name: str, group: str | None) -> "Plugin":
    from features.errors import InputError
    from features.plugins import GROUPS, plugins

    if group is not None and group not in GROUPS:
        raise InputError(f"there is no group {group!r}; the groups are {', '.join(GROUPS)}")
    installed = [plugin for each in GROUPS for plugin in plugins(each) if group in (None, each)]
    found = [plugin for plugin in installed if plugin.name == name]
    if len({plugin.group for plugin in found}) > 1:
        groups = ", ".join(plugin.group for plugin in found)
        raise InputError(f"there is a plug-in {name!r} in {groups}; say which with --group GROUP")
    if not found:
        names = ", ".join(plugin.name for plugin in installed) or "none"
        raise InputError(
            f"there is no plug-in {name!r}; those that are installed are: {names}. A plug-in is a "
            f"distribution with an entry point {name!r} in one of the groups {', '.join(GROUPS)}"
        )
    return found[0]


def _config(plugin: "Plugin", overrides: list[str]) -> Any:
    """The config of a plug-in with keys of the command line."""
    from pydantic import ValidationError

    from features.config_errors import describe
    from features.errors import InputError
    from flows.command.index import read_keys

    config = _config_class(plugin)
    try:
        return config.model_validate(read_keys(None, overrides))
    except ValidationError as error:
        raise InputError(f"check-plugin {plugin.name}: {describe(error, config)}") from None
