"""The generated reference has every command and every key."""

import importlib.util
from pathlib import Path

import pytest

from flows.keys.signature import keys_of
from flows.stage_functions import STAGES, stage_function

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
    for stage in STAGES:
        section = next(text for text in sections if text.startswith(f"`{stage}`"))
        for key in keys_of(stage_function(stage)):
            assert f"\n| `{key}` | " in section, (stage, key)


@pytest.mark.parametrize(
    "row",
    [
        "| `train.epochs` | integer | 15 | ",
        "| `encoders.N.keep` | centre, last | centre | ",
        "| `batch_size` | integer, null | null | ",
        "| `manifest` | path | required | ",
        "| `train.loss.region_weight` | number | 0.2 | ",
    ],
)
def test_a_row_has_type_and_default(keys, row):
    assert row in keys


def test_each_kind_of_a_config_has_a_section(keys):
    for title in ("`encoders.N` (`kind: ast`)", "`head` (`kind: released`)", "`train.loss`"):
        assert f"\n### {title}\n" in keys


def test_a_bar_in_help_does_not_break_a_table(reference):
    assert reference.commands().count("`--log-format text\\|json`") == 3
