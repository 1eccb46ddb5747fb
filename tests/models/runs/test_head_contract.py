"""The built-in heads pass `check_head`, which names the rule that a faulty one breaks."""

from typing import Literal

import pytest
import torch
from torch import nn

from models.heads import OWN
from models.heads.base import Head, HeadOutput, RegionOutput
from models.heads.config import HeadConfig
from models.runs.head_contract import check_head

Fault = Literal[
    "type", "shape", "region shape", "nan", "empty", "random", "masked", "windows", "frozen",
    "infinite", "paths", "json",
]  # fmt: skip


class FaultyConfig(HeadConfig):
    kind: Literal["faulty"] = "faulty"
    fault: Fault

    def build(self, inputs):
        return nn.Linear(1, 1) if self.fault == "type" else FaultyHead(self, inputs)


class FaultyHead(Head):
    """Predicts each row from its values; `fault` says what it does wrong."""

    def __init__(self, config, inputs):
        super().__init__()
        self.fault = config.fault
        self.va = nn.Linear(sum(len(each.mean) for each in inputs.streams.values()), 2)
        self.prompts = inputs.prompts(config.prompts)
        self.frozen = nn.Linear(len(inputs.streams["visual"].mean), 1)
        if config.fault == "frozen":
            self.requires_grad_(False)

    def prototypes(self):
        return self.prompts()

    def forward(self, batch, prototypes=None):
        streams = batch.streams.values()
        x = torch.cat([each.values * each.valid[..., None] for each in streams], dim=-1)
        if self.fault == "masked":
            x = torch.cat([each.values for each in streams], dim=-1)
        if self.fault == "windows":
            x = x - x.mean(dim=0)
        va = self.va(x)
        if self.fault == "nan":
            va = va / x[..., :1]  # 0 where a row is not valid
        if self.fault == "empty":
            va = va / x.abs().sum(dim=(1, 2), keepdim=True)
        if self.fault == "random":
            va = va + torch.rand(2)
        if self.fault == "infinite":
            va = va + (self.va.weight.sum() * 0).sqrt()  # sqrt has no gradient at 0
        if self.fault == "shape":
            va = va[:, 1:]
        logits = batch["visual"].values @ prototypes.T if prototypes is not None else None
        if logits is None:
            return HeadOutput(va, None)
        logits = logits * self.frozen.weight.sum()  # which V and A do not read
        if self.fault == "region shape":
            logits = logits[..., 1:]
        return HeadOutput(va, RegionOutput(logits, batch["visual"].valid))


@pytest.mark.parametrize("prompts", [{}, {"prompts": None}], ids=["prompts", "none"])
@pytest.mark.parametrize("config", OWN, ids=lambda config: config.__name__)
def test_our_heads_keep_it(config, prompts):
    checks = check_head(config(width=32, **prompts))
    assert [check for check in checks if check.problem] == []
    assert len(checks) == 9


@pytest.mark.parametrize(
    ("fault", "rule", "problem"),
    [
        ("type", "`build` returns", "it returned a Linear"),
        ("shape", "it predicts V and A", r"va has \(3, 10, 2\), not \(3, 11, 2\)"),
        ("region shape", "it predicts V and A", r"logits have \(3, 11, 8\), not \(3, 11, 9\)"),
        ("nan", "no prediction is NaN", "a batch with gaps"),
        ("empty", "no prediction is NaN", "windows without any valid row"),
        ("random", "the same predictions each time", "in eval mode they differ"),
        ("masked", "rows that are not valid", "values of 1e[+]06 there change V or A"),
        ("windows", "do not influence each other", "window 1 has other predictions when it is"),
        ("frozen", "gradients are finite", "no parameter has a gradient"),
        ("infinite", "gradients are finite", "a gradient of V and A is NaN or infinite"),
        ("paths", "gradients are finite", "the region loss reaches no parameter of the V/A"),
    ],
)
def test_a_head_that_breaks_a_rule_is_told_which(fault, rule, problem):
    *kept, broken = check_head(FaultyConfig(fault=fault))
    assert all(not check.problem for check in kept)
    assert rule in broken.rule
    with pytest.raises(ValueError, match=problem):
        raise ValueError(broken.problem)


def test_a_number_that_is_not_saved_is_found(monkeypatch):
    [dspl, _] = OWN
    build = dspl.build

    def build_with_own_number(self, inputs):
        head = build(self, inputs)
        offset, forward = torch.rand(()), head.forward  # drawn, and in no state_dict

        def shifted(*given):
            output = forward(*given)
            return HeadOutput(output.va + offset, output.regions)

        head.forward = shifted
        return head

    monkeypatch.setattr(dspl, "build", build_with_own_number)
    broken = check_head(dspl(width=8))[-1]
    assert "saved and loaded" in broken.rule
    assert "is a number no parameter and no buffer?" in broken.problem
