"""Valence, arousal and regions of the newest rows of a stream, from a causal model."""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Int64

from features.errors import InputError
from models.data.packed import PackedFeatures
from models.data.windows import CausalWindows, causal_windows
from models.heads.base import Head
from models.heads.config import DsplOptions
from models.metrics.predict import RegionPosterior
from models.metrics.smoothing import SmoothingWindows
from models.prediction.estimate import Estimate, combine
from models.regions.grid import Grid
from models.runs.checkpoint import load_head
from models.runs.folder import HEAD_FILE
from models.runs.predictor import TrainedEnsemble, TrainedModel
from models.runs.threads import limit_threads


def check_causal(model: TrainedModel) -> None:
    """Raise `InputError` if a prediction of the model depends on later rows."""
    if model.meta.head.windows != "causal":
        raise InputError(
            f"the head in {model.run} reads windows that end after the row that it predicts "
            f"(head.windows = {model.meta.head.windows}), which are not known in a live stream; "
            "train one with head.windows=causal"
        )
    if model.meta.widths_s != SmoothingWindows():
        raise InputError(
            f"the head in {model.run} smooths its predictions over time (train.smooth), half of "
            "the span later than the row, which is not known in a live stream; train one without"
        )
    if isinstance(model, TrainedEnsemble) and model.record.widths_s != SmoothingWindows():
        widths = model.record.widths_s
        raise InputError(
            f"the ensemble in {model.run} smooths over {widths.valence:g} s of valence and "
            f"{widths.arousal:g} s of arousal, half of them later than the row, which is not known "
            f"in a live stream; give the folder of a member, such as {model.members[0].run}"
        )


def hears(model: TrainedModel) -> bool:
    """Return whether the predictions of a model depend on the sound."""
    head, streams = model.meta.head, model.meta.streams
    read = head.read_streams(tuple(streams)) if isinstance(head, DsplOptions) else streams
    return any(streams[name].modality == "audio" for name in read)


class LiveEstimator:
    """The heads of a causal model, loaded once.

    The windows of a row are computed anew for each: a head of causal windows keeps no state.
    """

    def __init__(self, model: TrainedModel, device: torch.device) -> None:
        check_causal(model)
        self._model, self._device = model, device
        members = model.members if isinstance(model, TrainedEnsemble) else (model,)
        self._heads = [load_head(member.run / HEAD_FILE, device) for member in members]
        self._with_regions = model.meta.loss.region_weight > 0

    @property
    def grid(self) -> Grid:
        """The grid that the head was trained on."""
        return self._model.meta.grid

    def estimate(self, packed: PackedFeatures, targets: Int64[np.ndarray, "N"]) -> Estimate:
        """Predict some rows of a clip that is packed alone, which begins ten seconds earlier.

        Values are those of `ModelEstimator` for rows with a picture.
        """
        windows = causal_windows(packed.offsets, packed.time_s, stride=1)
        chosen = replace(windows, target=targets, first_row=np.zeros_like(targets))
        with limit_threads(self._model.config.train.threads):
            members = [self._of_head(head, packed.to(self._device), chosen) for head in self._heads]
        return combine(members) if isinstance(self._model, TrainedEnsemble) else members[0]

    @torch.inference_mode()
    def _of_head(self, head: Head, packed: PackedFeatures, windows: CausalWindows) -> Estimate:
        prototypes = head.prototypes() if self._with_regions or head.reads_regions else None
        batch, _ = packed.gather(windows, np.arange(len(windows)))
        output = head(batch, prototypes)
        va = np.clip(output.va[:, 0].double().cpu().numpy(), -1, 1)
        if not self._with_regions or output.regions is None:
            return Estimate(va)
        posterior = output.regions.logits[:, 0].double().softmax(dim=-1).cpu().numpy()
        return Estimate(va, RegionPosterior(posterior, output.regions.valid[:, 0].cpu().numpy()))
