"""The built-in data sets pass `check_dataset`, which names the rule that a faulty one breaks."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from features.datasets import KINDS, dataset
from features.datasets.base import DatasetConfig
from features.datasets.contract import check_dataset
from features.datasets.veatic import VeaticConfig
from features.manifest.labels import Labels
from tests.helpers.dataset_samples import (
    N_FRAMES,
    write_afew_va,
    write_msp_conversation,
    write_sewa,
    write_veatic,
)
from tests.helpers.small_media import write_video


@pytest.fixture(autouse=True)
def one_decoder(monkeypatch, kept_decoder) -> None:
    monkeypatch.setattr("features.datasets.entries.Decoder", kept_decoder)


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("samples")
    video = write_video(folder / "v.mp4", time_s=np.arange(N_FRAMES) / 25).read_bytes()
    return {
        "veatic": write_veatic(folder / "veatic", video, ids=(0, 1)),
        "series": write_sewa(folder / "series", video),
        "afew-va": write_afew_va(folder / "afew"),
        "msp-conversation": write_msp_conversation(
            folder / "msp", lambda path: path.write_bytes(b"sound")
        ),
    }


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"affwild2", "table"}))
def test_our_data_sets_keep_it(kind, samples):
    checks = check_dataset(dataset(kind, samples[kind]))
    assert [check for check in checks if check.problem] == []
    assert len(checks) == 7


class FaultyConfig(VeaticConfig):
    kind: Literal["faulty"] = "faulty"
    fault: str
    n_calls: list[int]

    def index(self, base):
        if self.fault == "crash" and not (self.root / "videos").is_dir():
            raise KeyError("videos")
        if self.fault == "empty" and not (self.root / "videos").is_dir():
            self = self.model_copy(update={"root": Path(self.fault)})
        found = VeaticConfig.index(self, base)
        self.n_calls.append(1)
        clip, *others = found.clips
        changes = {
            "none": {"clips": ()},
            "left out": {"left_out": {"7": "its video is missing"}},
            "order": {"reports": found.reports[::-1]},
            "repeat": {"notes": (str(len(self.n_calls)),)},
            "values": {
                "labels": {
                    name: Labels(each.va * 0 + len(self.n_calls) / 9, each.valid)
                    for name, each in found.labels.items()
                }
            },
            "media": {"clips": (clip.model_copy(update={"video": "gone.mp4"}), *others)},
            "no media": {"clips": (clip.model_copy(update={"video": None}), *others)},
            "twice": {
                "clips": (clip, clip, *others[1:]),
                "reports": (found.reports[0], *found.reports[:1], *found.reports[2:]),
            },
            "no labels": {"labels": {}},
        }
        return replace(found, **changes.get(self.fault, {}))


@pytest.mark.parametrize(
    ("fault", "rule", "problem"),
    [
        ("none", "every clip of the sample", "there is no clip"),
        ("left out", "every clip of the sample", "7 is left out: its video is missing"),
        ("order", "a row per clip", "clips are ['0-train'"),
        ("repeat", "a second index is the same", "it has other clips, or another report"),
        ("values", "a second index is the same", "the labels of 0-train are others"),
        ("media", "its files are there", "0-train: video = 'gone.mp4' does not exist"),
        ("no media", "its files are there", "0-train has neither video, frames nor audio"),
        ("twice", "its files are there", "the id '0-train' is already in line 2"),
        ("no labels", "a clip has labels", "no clip has a row that is annotated"),
        ("crash", "an empty folder is refused", "it raises KeyError ('videos')"),
        ("empty", "an empty folder is refused", "the message does not name it: empty has no"),
    ],
)
def test_a_data_set_that_breaks_a_rule_is_told_which(fault, rule, problem, samples):
    config = FaultyConfig(root=samples["veatic"], fault=fault, n_calls=[])
    assert isinstance(config, DatasetConfig)
    *kept, broken = check_dataset(config)
    assert all(not check.problem for check in kept)
    assert rule in broken.rule
    assert problem in broken.problem
