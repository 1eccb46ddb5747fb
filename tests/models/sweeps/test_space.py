import pytest

from features.errors import InputError
from models.ablation.plan import Variant
from models.heads.dspl import DsplConfig
from models.stages.sweep import model_of
from models.sweeps.space import FOLDER, Choices, Numbers, read_space, variant_of
from models.training.config import TrainConfig


def test_a_space_has_choices_and_ranges(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(
        "head.temporal: [gru, tcn]\n"
        "head.prompts: {choices: [null, {kind: fixed}]}\n"
        "train.learning_rate: {low: 1.0e-4, high: 0.1, log: true}\n"
        "head.width: {low: 8, high: 32, step: 8}\n"
    )
    space = read_space(str(path))
    assert space.values["head.temporal"] == Choices(choices=("gru", "tcn"))
    assert space.values["head.prompts"] == Choices(choices=(None, {"kind": "fixed"}))
    assert space.values["train.learning_rate"] == Numbers(low=1e-4, high=0.1, log=True)
    assert not space.values["train.learning_rate"].is_whole
    assert space.values["head.width"].is_whole


def test_the_values_of_a_trial_are_a_variant():
    found = variant_of({"head.prompts.kind": "fixed", "train.loss.sigma": 0.3, "head.width": 8})
    assert found == Variant(
        head={"prompts": {"kind": "fixed"}, "width": 8}, train={"loss": {"sigma": 0.3}}
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "is not YAML"),
        ("just words", "no keys with values"),
        ("head.width: 8", "head.width = 8: give a list of values, or a range"),
        ("head.width: {low: 8}", "head.width: the key 'high' is missing"),
        ("head.width: {low: 8, hihg: 9}", "unknown key 'hihg'; the nearest valid one is 'high'"),
        ("head.width: {low: 9, high: 8}", r"low \(9\) must be below high \(8\)"),
        ("head.width: {low: 0, high: 8, log: true}", "must be above 0 on a logarithmic scale"),
        ("head.width: {low: 1, high: 8, log: true, step: 2}", "a logarithmic scale has no step"),
        ("head.width: {low: 1, high: 8, step: 0}", r"step \(0\) must be above 0"),
        ("head.width: {low: 1, high: 8, step: 2}", "whole steps of 2 above low"),
        ("head.dropout: {low: .nan, high: 1}", "must be below high"),
        ("head.width: [8, 8]", "a value is there twice"),
        ("head.width: []", "choices"),
    ],
)
def test_a_space_that_is_none_is_refused(tmp_path, text, message):
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_space(str(path))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"manifest": "m"}, "manifest: only keys inside head and train can vary"),
        ({"head": "h"}, "head: only keys inside head and train"),
        ({"train.select": "val"}, "train.select: it cannot vary"),
        ({"train.seed": 1}, "train.seed: it cannot vary, as the seeds of a trial count up"),
        ({"head.prompts": None, "head.prompts.kind": "fixed"}, "varies as a whole; leave one out"),
        ({"head.prompts.kind": "fixed", "head.prompts": None}, "keys inside it vary, too"),
    ],
)
def test_keys_that_cannot_vary_are_refused(params, message):
    with pytest.raises(InputError, match=message):
        variant_of(params)


def test_a_space_that_is_not_there_is_answered_with_those_that_are():
    with pytest.raises(InputError, match="there is no space 'defualt'.* give one of default"):
        read_space("defualt")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_value_of_the_spaces_of_the_project_is_valid(path):
    for key, values in read_space(path.stem).values.items():
        for value in values.ends():
            head, train = model_of({key: value}, DsplConfig(), TrainConfig())
            assert (head, train) != model_of({}, DsplConfig(), TrainConfig()) or value in (
                TrainConfig().mixup,
                "gru",
            )
