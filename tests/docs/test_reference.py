"""The generated reference has every command and every key."""

import importlib.util
from pathlib import Path

import pytest

from flows.stage_keys import parameters
from flows.stages import STAGES

EXTENSION = Path(__file__).parents[2] / "docs" / "_ext" / "reference.py"


@pytest.fixture(scope="module")
def reference():
    """The extension that generates the reference."""
    spec = importlib.util.spec_from_file_location("reference", EXTENSION)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def keys(reference) -> str:
    """The reference of keys."""
    return reference.keys()


def test_every_command_has_a_section_with_its_arguments(reference):
    text = reference.commands()
    for name in ("demo", "render", "index", "run", "status", "verify", "export", "report"):
        assert f"## `vaflow {name}`" in text
    assert "`--repair`" in text
    assert "`-c CONFIG.yaml`, `--config CONFIG.yaml`" in text


def test_every_key_of_every_stage_has_a_row(keys):
    sections = keys.split("### ")
    for stage, function in STAGES.items():
        section = next(s for s in sections if s.startswith(f"`{stage}`"))
        for key in parameters(function).model_fields:
            assert f"\n| `{key}` | " in section, (stage, key)


@pytest.mark.parametrize(
    "row",
    [
        "| `epochs` | integer | `15` | ",
        '| `keep` | `centre`, `last` | `"centre"` | ',
        "| `batch_size` | integer or null | `null` | ",
        "| `manifest` | path | required | ",
        "| `encoders` | list of ClipConfig or AstConfig | required | ",
    ],
)
def test_a_row_has_type_and_default(keys, row):
    assert row in keys


def test_nested_keys_have_their_help(keys):
    assert "### AstConfig (`kind: ast`)" in keys
    assert "Peak learning rate" in keys


def test_a_bar_in_help_does_not_break_a_table(reference):
    assert reference.commands().count("`--log-format text\\|json`") == 2
