"""YuNet passes `check_detector`, which names the rule that a faulty detector breaks."""

import hashlib
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest

from features.extraction.detector_contract import check_detector
from features.faces.detector import DetectorConfig
from features.faces.yunet import YuNetConfig


class FaultyConfig(DetectorConfig):
    kind: Literal["faulty"] = "faulty"
    max_overlap: float = 0.3
    fault: str

    def weights_sha256(self):
        return "none" if self.fault == "sha256" else hashlib.sha256(b"").hexdigest()

    def as_spec(self):
        spec = super().as_spec()
        return spec | {"kind": "other"} if self.fault == "kind" else spec

    def build(self):
        return object() if self.fault == "protocol" else FaultyDetector(self.fault)


class FaultyDetector:
    """YuNet, with a fault."""

    def __init__(self, fault):
        self.fault = fault
        self.yunet = YuNetConfig().build()
        self.n_calls = 0
        self.drawn = np.random.default_rng().uniform(0, 1)

    def detect(self, image):
        self.n_calls += 1
        faces = self.yunet.detect(image)
        if self.fault == "list":
            return [faces]
        if self.fault == "blind":
            return faces[:0]
        if self.fault == "eager" and not len(faces):
            return self.found
        self.found = faces
        boxes, points, scores = faces.boxes_px, faces.landmarks_px, faces.scores
        changes = {
            "nan": {"landmarks_px": points * np.float32(np.nan)},
            "percent": {"scores": scores * 100},
            "order": {"scores": scores[::-1].copy()},
            "corners": {"boxes_px": boxes * np.float32([1, 1, -1, 1])},
            "elsewhere": {"boxes_px": boxes + np.float32([1000, 0, 0, 0])},
            "swapped": {"landmarks_px": points * np.float32([1, 10])},
            "state": {"boxes_px": boxes + np.float32(self.n_calls)},
            "drawn": {"boxes_px": boxes + np.float32(self.drawn)},
        }
        found = replace(faces, **changes.get(self.fault, {}))
        if self.fault == "shape":  # past the checks of shapes that only tests make
            object.__setattr__(found, "boxes_px", boxes.reshape(-1, 2, 2))
        if self.fault == "dtype":
            object.__setattr__(found, "scores", scores.astype(np.float64))
        return found


def test_yunet_keeps_it():
    checks = check_detector(YuNetConfig())
    assert [check for check in checks if check.problem] == []
    assert len(checks) == 8


@pytest.mark.parametrize(
    ("fault", "rule", "problem"),
    [
        ("kind", "the spec is of the kind", "as_spec() has the kind 'other'"),
        ("sha256", "the spec is of the kind", "weights_sha256() is 'none', no sha256"),
        ("protocol", "`build` returns", "it has no method `detect`"),
        ("list", "it finds a face", "`detect` returned a list, not features.faces"),
        ("blind", "it finds a face", "it found none of the two people"),
        ("shape", "documented shapes", "boxes_px has (2, 2, 2) float32, not (2, 4) float32"),
        ("dtype", "documented shapes", "scores has (2,) float64, not (2,) float32"),
        ("nan", "documented shapes", "landmarks_px has a value that is not finite"),
        ("percent", "scores are from 0 to 1", "the scores are 93"),
        ("order", "scores are from 0 to 1", "the scores are 0.92"),
        ("corners", "within the picture", "a box has a width or height that is not above 0"),
        ("elsewhere", "within the picture", "a box lies outside the picture"),
        ("swapped", "within the picture", "a landmark lies outside the picture"),
        ("state", "the same faces each time", "searched again after others has other faces"),
        ("drawn", "the same faces each time", "a detector that is built again finds other faces"),
        ("eager", "an empty picture has no face", "it found 2 in a grey picture of 250 x 190"),
    ],
)
def test_a_detector_that_breaks_a_rule_is_told_which(fault, rule, problem):
    *kept, broken = check_detector(FaultyConfig(fault=fault))
    assert all(not check.problem for check in kept)
    assert rule in broken.rule
    assert problem in broken.problem
