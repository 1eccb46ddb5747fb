"""Settings of runs as flat keys, and what counts as a change."""

from models.heads.dspl import DsplConfig
from models.runs.folder import RunConfig
from models.runs.settings import changed_settings, most_common, settings_of
from models.training.config import TrainConfig

CONTROLS = ("none", "none", "random")


def settings(head: dict | None = None, train: dict | None = None, **keys):
    fields = {"manifest": "m", "store": "s", "run": "r"} | keys
    config = RunConfig(
        head=DsplConfig.model_validate(head or {}),
        train=TrainConfig.model_validate(train or {}),
        **fields,
    )
    return settings_of(config)


def test_folders_and_devices_are_no_settings():
    assert settings() == settings(
        run="elsewhere", store="moved", train={"device": "cpu", "threads": 1}
    )
    assert changed_settings(settings(manifest="other"), settings()) == {"manifest": "other"}


def test_a_changed_key_is_named_with_its_section():
    run = settings({"width": 32}, {"loss": {"sigma": 0.3}})
    assert changed_settings(run, settings()) == {"head.width": 32, "train.loss.sigma": 0.3}


def test_keys_of_another_kind_are_left_out_and_others_that_are_new_are_not():
    fixed, coop = settings({"prompts": {"kind": "fixed"}}), settings()
    assert changed_settings(coop, fixed) == {"head.prompts.kind": "coop"}  # not its n_context
    assert changed_settings(settings({"prompts": None}), coop) == {"head.prompts": None}
    weighed = settings(train={"set_weights": {"b": 2.5}})
    assert changed_settings(weighed, coop) == {"train.set_weights.b": 2.5}


def test_the_most_common_value_is_the_reference_and_the_first_of_equals():
    runs = [settings({"width": width, "skip_spans": [9]}) for width in (32, 64, 64)]
    assert most_common(runs)["head.width"] == 64
    assert most_common(runs[:2])["head.width"] == 32
    assert most_common(runs)["head.skip_spans"] == [9]


def test_a_key_that_most_runs_lack_is_a_change_of_those_that_have_it():
    without, coop = settings({"prompts": None}), settings()
    reference = most_common([without, coop, coop])
    assert changed_settings(without, reference) == {"head.prompts": None}
    assert changed_settings(coop, reference) == {}
    fixed = [settings({"prompts": {"kind": "fixed", "control": control}}) for control in CONTROLS]
    reference = most_common([*fixed, coop])  # whose n_context only one kind has
    assert changed_settings(coop, reference) == {"head.prompts.kind": "coop"}
    assert changed_settings(fixed[2], reference) == {"head.prompts.control": CONTROLS[2]}
