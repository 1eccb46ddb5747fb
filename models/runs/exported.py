"""An exported head: a folder with a program, and a description of what it reads.

OUT/
    head.pt2        the program (models/runs/program.py)
    head.onnx       the same program for ONNX, if it was asked for
    model_card.md   for people
    head.json       the description; written last, it commits the others
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import JsonValue, ValidationError
from torch import Tensor
from torch.export.passes import move_to_device_pass

from features.canonical_json import JsonObject
from features.config import Config
from features.config_errors import describe
from features.errors import InputError, LaterVersion
from features.system.files import sha256_of
from models.data.batch import Batch, Modality
from models.data.data_sets import LabelMap
from models.data.packed import PackedFeatures
from models.data.stream_names import StreamName
from models.data.windows import causal_windows, dense_windows
from models.heads.base import Head, HeadOutput, RegionOutput
from models.metrics.predict import Prediction, predict
from models.metrics.scores import SplitScore
from models.metrics.smoothing import SmoothingWindows, smooth
from models.regions.grid import Grid
from models.runs.folder import EXPORTED
from models.runs.predictor import TrainedModel, holds_exported, open_model
from models.runs.program import REGION_LOGITS, REGION_VALID, VA, arrays_of

FORMAT = "vaflow-exported-head-1"
PROGRAM = "head.pt2"
ONNX = "head.onnx"
CARD = "model_card.md"
FILES = (EXPORTED, PROGRAM, ONNX, CARD)
"""In the order in which they are deleted."""
LABEL_RANGE = (-1.0, 1.0)


class ExportedStream(Config):
    """A stream that the program reads."""

    modality: Modality
    n_rows: int
    """Rows of a window."""
    width: int
    """Numbers of an embedding."""
    feature_set: str
    """The name of the feature set, which has the first digits of the digest of its spec."""
    spec: JsonObject | None
    """What decides the features, with the sha256 of the encoder's weights; None if not known."""
    encoder: JsonValue
    """The config of the encoder, as `encoders` of `extract-features` has it; None if not known."""


class TrainedOn(Config):
    """What can be said of the training, without paths of the machine that it ran on."""

    manifests: tuple[str, ...]
    """The names of their files."""
    clips: dict[str, int]
    """Their number by split; empty if not known."""
    subjects: int | None
    """In the training split; None if not known."""
    unlabelled: str | None
    """The manifest of the clips that were read without their labels."""
    transductive: bool
    """Whether some of these may be of the test people."""
    select: str
    """Which epoch was kept (`train.select`)."""
    seed: int

    @property
    def n_clips(self) -> int:
        """The number of clips that were trained on; 0 if not known."""
        return self.clips.get("train", 0)


class HeadDescription(Config):
    """What `head.json` says."""

    format: str = FORMAT
    kind: str
    """Of the head that was exported."""
    streams: dict[StreamName, ExportedStream]
    """In the order of the streams."""
    clock: str | None
    """The feature set whose rows are predicted: each a frame of the video. None: those of the
    first stream."""
    windows: Literal["dense", "causal"]
    """Predict every row of a window, or the last row of the ten seconds before it."""
    stride: int
    """Rows from one dense window to the next; a causal head has a window for each row."""
    outputs: tuple[str, ...]
    label_range: tuple[float, float] = LABEL_RANGE
    """Of valence and of arousal; predictions are clipped to it after windows are averaged."""
    label_maps: dict[str, LabelMap]
    """By data set, the map of its labels to the scale of the predictions; empty for none."""
    smoothing_s: SmoothingWindows
    """Spans of the moving means that follow."""
    grid: Grid
    """The regions of `region_logits`: number n * valence level + arousal level, of n levels."""
    threads: int | None
    trained_on: TrainedOn
    scores: dict[str, SplitScore]
    """Of the run, by split; of several data sets also those of each, as `SPLIT of SET`."""
    checked: dict[str, float]
    """The largest difference of the program from the run's network, by kind of windows."""
    made_by: dict[str, JsonValue]
    sha256: dict[str, str]
    """Of the other files."""

    @property
    def feature_sets(self) -> dict[str, str]:
        """The name of the feature set of each stream."""
        return {name: each.feature_set for name, each in self.streams.items()}


class _ProgramHead(Head):
    """A program as a head, so that its windows are averaged like those of any other."""

    def __init__(self, program: torch.nn.Module) -> None:
        super().__init__()
        self._call = program.__call__  # as a submodule it would be put into eval mode: it has none

    def prototypes(self) -> None:
        """None: they are in the program."""

    def forward(self, batch: Batch, prototypes: Tensor | None = None) -> HeadOutput:
        """The outputs of the program."""
        found: Mapping[str, Tensor] = self._call(*arrays_of(batch))
        if REGION_LOGITS not in found:
            return HeadOutput(found[VA], None)
        return HeadOutput(found[VA], RegionOutput(found[REGION_LOGITS], found[REGION_VALID]))


@dataclass(frozen=True, slots=True)
class ExportedHead:
    """The exported head in a folder."""

    run: Path
    meta: HeadDescription
    _loaded: dict[torch.device, Head] = field(default_factory=dict, repr=False, compare=False)

    def digest(self) -> str:
        """sha256 of everything that decides the predictions."""
        return sha256_of(self.run / EXPORTED)

    def predict(self, packed: PackedFeatures, *, regions: bool = False) -> Prediction:
        """Return what the run that was exported predicts, computed on the device of the features.

        With `regions`, also the region posteriors, if the region branch was trained.
        """
        meta = self.meta
        if meta.windows == "dense":
            size = next(iter(meta.streams.values())).n_rows
            windows = dense_windows(packed.offsets, size=size, stride=meta.stride)
        else:
            windows = causal_windows(packed.offsets, packed.time_s, stride=1)
        head = self._head(packed.device)
        return smooth(predict(head, packed, windows, regions=regions), packed, meta.smoothing_s)

    def _head(self, device: torch.device) -> Head:
        if device not in self._loaded:
            path = self.run / PROGRAM
            if not path.is_file() or sha256_of(path) != self.meta.sha256.get(PROGRAM):
                raise InputError(
                    f"{path} is missing, or is not the program that {EXPORTED} beside it "
                    "describes; export the head again with vaflow export-head"
                )
            program = torch.export.load(path)
            if device.type != "cpu":
                program = move_to_device_pass(program, device)
            self._loaded[device] = _ProgramHead(program.module())
        return self._loaded[device]


def read_exported(folder: Path) -> ExportedHead:
    """Return the exported head in a folder.

    Raises `InputError` if its description cannot be read, and `LaterVersion` if its format is
    unknown.
    """
    path = folder / EXPORTED
    try:
        fields: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); export the head again") from None
    version = fields.get("format") if isinstance(fields, dict) else None
    if isinstance(version, str) and version != FORMAT:
        raise LaterVersion(
            f"{path} is of format {version!r}, this vaflow reads {FORMAT!r}; use the vaflow that "
            "wrote it, or export the head again"
        )
    try:
        return ExportedHead(folder, HeadDescription.model_validate(fields))
    except ValidationError as error:
        why = describe(error, HeadDescription) if error.errors()[0]["loc"] else "it holds no keys"
        raise InputError(
            f"{path} is no description of an exported head: {why}; export the head again"
        ) from None


AnyModel = TrainedModel | ExportedHead
"""What predicts files: a head or an ensemble of a run, or an exported head."""


def open_any_model(folder: Path) -> AnyModel:
    """Return the model in a folder; raises as `open_model` and `read_exported` do."""
    return read_exported(folder) if holds_exported(folder) else open_model(folder)
