"""`vaflow run --help` and `vaflow run STAGE --help`, which are made from the stages themselves."""

import pytest

from flows.command.main import main
from flows.keys.schema import stage_schema
from flows.keys.signature import keys_of
from flows.stage_functions import STAGES, stage_function

pytestmark = pytest.mark.slow


def help_of(capsys, *words: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(["run", *words, "--help"])
    assert end.value.code == 0
    return capsys.readouterr().out


def test_the_help_of_run_lists_the_stages(capsys):
    text = help_of(capsys)
    for name, about in STAGES.items():
        assert f"  {name}" in text
        assert about in text


@pytest.mark.parametrize("name", STAGES)
def test_the_help_of_a_stage_lists_all_its_keys(name, capsys):
    text = help_of(capsys, name)
    for key in keys_of(stage_function(name)):
        assert f"\n  {key}: " in text


def test_keys_inside_configs_have_type_default_and_help(capsys):
    text = help_of(capsys, "train-head")
    assert "  manifest: path | list of path; required\n" in text
    assert "  head: config of kind dspl or released; default kind dspl\n" in text
    assert "  head.width: integer; default 256\n" in text
    temporal = "  head.temporal: gru | tcn | tcn_released | transformer; default "
    assert f"{temporal}gru\n" in text
    assert f"{temporal}tcn_released\n" in text  # of released
    assert "  train.epochs: integer; default 15\n" in text
    assert "At least 1." in text
    assert "\ntrain.loss:\n" in text


@pytest.mark.parametrize("name", STAGES)
def test_every_key_of_every_stage_has_help(name):
    keys = list(stage_schema(stage_function(name)))
    assert all(key.help for key in keys), [key.name for key in keys if not key.help]


def test_an_unknown_stage_has_no_help(capsys):
    assert main(["run", "train", "--help"]) == 2
    assert "did you mean 'train-head'" in capsys.readouterr().err


def test_an_old_option_is_answered_with_its_new_name(capsys):
    with pytest.raises(SystemExit) as end:
        main(["index", "affwild2", ".", "-o", "m", "--max-rows-apart", "4"])
    assert end.value.code == 2
    assert "--max-rows-apart is now called --max-length-mismatch" in capsys.readouterr().err
