"""A trained head as one safetensors file: weights, config and feature sets."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from features.config import Config
from features.errors import InputError
from features.system.files import write_atomic
from models.data.batch import Modality
from models.data.statistics import Statistics
from models.data.stream_names import StreamName
from models.heads import AnyHeadConfig
from models.heads.base import Head, HeadInputs
from models.metrics.smoothing import SmoothingWindows
from models.regions.grid import NINE, Grid
from models.regions.prototypes import FixedPrototypes
from models.runs.folder import check_format
from models.training.loss_config import LossConfig
from models.training.old_keys import OLD_STREAMS, move_old_keys

FORMAT = "vaflow-head-1"
META_KEY = "vaflow"
PROTOTYPES = "prototypes"
"""Name of the region prototypes among the tensors."""
PROMPTS = ("prompts.", "bank.")
"""Prefixes of the tensors of prompts, which need a text encoder; `bank.` is from version 0.1."""


class StreamMeta(Config):
    """A stream that a head reads."""

    feature_set: str
    """Its name, with its digest."""
    modality: Modality
    width: int


class CheckpointMeta(Config):
    """Everything needed to build a head and its inputs."""

    format: str = FORMAT
    head: AnyHeadConfig
    loss: LossConfig = LossConfig()
    streams: dict[StreamName, StreamMeta]
    """In the order of the streams."""
    window: int
    stride: int
    key: str
    """sha256 of everything that determines the weights."""
    code: str | None = None
    """Digest of the code that trained it; None if a version before 0.2 did."""
    grid: Grid = NINE
    widths_s: SmoothingWindows = SmoothingWindows()
    """What predictions are smoothed with; nothing unless `train.smooth`."""

    @model_validator(mode="before")
    @classmethod
    def _accept_old_keys(cls, fields: object) -> object:
        if not isinstance(fields, dict):
            return fields
        names = {key: fields[key] for key in OLD_STREAMS if key in fields}
        moved = move_old_keys({key: value for key, value in fields.items() if key not in names})
        if names:
            moved["streams"] = {
                key: {"feature_set": name, "modality": key, "width": moved.pop(f"{key}_width")}
                for key, name in names.items()
            }
        return moved | moved.pop("train", {})

    @property
    def feature_sets(self) -> dict[str, str]:
        """The name of the feature set of each stream."""
        return {name: each.feature_set for name, each in self.streams.items()}


def save_head(
    path: Path, state: Mapping[str, Tensor], prototypes: Tensor | None, meta: CheckpointMeta
) -> None:
    """Write the weights, whole or not at all; this commits a run."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    if prototypes is not None:
        tensors[PROTOTYPES] = prototypes.detach().cpu().contiguous()
    write_atomic(path, save(tensors, metadata={META_KEY: meta.model_dump_json()}))


def read_meta(path: Path) -> CheckpointMeta:
    """Return the metadata of a head.

    Raises `InputError` if there is no head or it cannot be read, and `LaterVersion` if its format
    is unknown.
    """
    if not path.is_file():
        raise InputError(f"there is no trained head at {path}; run train-head first")
    try:
        with _open_tensors(path) as file:
            fields = json.loads((file.metadata() or {})[META_KEY])
    except (SafetensorError, KeyError, ValueError) as error:
        raise InputError(
            f"{path} is not a head of vaflow, or is damaged ({error}); run train-head again"
        ) from None
    check_format(path, "a head", fields.get("format"), FORMAT, "train-head")
    try:
        return CheckpointMeta.model_validate(fields)
    except ValidationError as error:
        raise InputError(
            f"{path} has a head config that this vaflow does not know "
            f"({error.errors(include_url=False)[0]['msg']}); run train-head again"
        ) from None


def load_head(path: Path, device: torch.device) -> Head:
    """Return the head in eval mode, with frozen prompts; raises as `read_meta` does."""
    meta = read_meta(path)
    try:
        with _open_tensors(path, device) as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        # a head without a name of its text stream is of a version that had two streams
        text_stream = getattr(meta.head, "text_stream", None) or next(iter(meta.streams))
        width = meta.streams[text_stream].width
        prototypes = tensors.pop(PROTOTYPES, torch.zeros(0, width))
        inputs = HeadInputs(
            {
                name: Statistics(torch.zeros(each.width), torch.ones(each.width))
                for name, each in meta.streams.items()
            },
            (text_stream,),
            lambda _: FixedPrototypes(prototypes),
            meta.grid,
        )
        head = meta.head.build(inputs).to(device).eval()
        state = {name: tensor for name, tensor in tensors.items() if not name.startswith(PROMPTS)}
        state |= {name: t for name, t in head.state_dict().items() if name.startswith(PROMPTS)}
        head.load_state_dict(state)
    except (SafetensorError, RuntimeError) as error:
        raise InputError(
            f"the weights in {path} do not fit the head that {path.name} describes ({error}); "
            "run train-head again"
        ) from None
    return head


@contextmanager
def _open_tensors(path: Path, device: torch.device | str = "cpu") -> Iterator[Any]:
    """Open a file of safetensors, by its number: the library takes no path that is not UTF-8."""
    with (
        path.open("rb") as file,
        safe_open(f"/proc/self/fd/{file.fileno()}", framework="pt", device=str(device)) as tensors,
    ):
        yield tensors
