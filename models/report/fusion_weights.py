"""What a head takes from which stream: the weights of its gate and attention, row by row."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, nn

from models.data.batches import batches
from models.data.packed import PackedFeatures
from models.data.windows import SPAN_S, DenseWindows, Windows
from models.heads.base import Head
from models.heads.network import DsplHead
from models.heads.windows import head_windows
from models.metrics.predict import ROWS_AT_ONCE, sum_by_row
from models.nn.fusion import CrossModalAttention, GatedFusion, StreamFusion
from models.runs.checkpoint import load_head
from models.runs.folder import HEAD_FILE
from models.runs.predictor import TrainedEnsemble
from models.runs.run_split import PredictedSplit
from models.runs.threads import limit_threads

N_LAGS = 21  # odd, so that the middle one is around 0
NO_FUSION = "This head has no gate and no attention between streams."
OF_AN_ENSEMBLE = (
    "Each member of an ensemble has a gate and an attention of its own: the report of a member "
    "shows them."
)


@dataclass(frozen=True, slots=True)
class FusionWeights:
    """Gate and attention of every row, each the mean of the windows that predict the row."""

    gate: Mapping[str, Float64[np.ndarray, "N"]]
    """Of each stream its weight, the mean over the features; they sum to 1. Empty without one."""
    attention: Mapping[str, Float64[np.ndarray, "N L"]]
    """By "STREAM to STREAM", the weight at each lag: the mean over the heads."""
    lags_s: Float64[np.ndarray, "L"]
    """The middle of each lag, evenly spaced: how much later the row is that is attended to."""

    def take(self, rows: slice) -> "FusionWeights":
        """Return the weights of some rows."""
        return FusionWeights(
            {name: each[rows] for name, each in self.gate.items()},
            {name: each[rows] for name, each in self.attention.items()},
            self.lags_s,
        )


def fusion_weights_of(split: PredictedSplit) -> FusionWeights | str:
    """Return the weights of a run on a split, or why there is nothing to show."""
    predictor, packed = split.source.predictor, split.packed
    if isinstance(predictor, TrainedEnsemble):
        return OF_AN_ENSEMBLE
    meta = predictor.meta
    head = load_head(predictor.run / HEAD_FILE, packed.device)
    windows = head_windows(packed, meta.head, size=meta.window, stride=meta.stride)
    with limit_threads(predictor.config.train.threads):
        return fusion_weights(head, packed, windows) or NO_FUSION


@torch.inference_mode()
def fusion_weights(head: Head, packed: PackedFeatures, windows: Windows) -> FusionWeights | None:
    """Return gate and attention of every row; None if the head has neither.

    Forward hooks read what goes into the gate and the attention, so that a head computes no more
    than it needs unless it is asked here.
    """
    fusion = head.fuse if isinstance(head, DsplHead) else None
    if fusion is None or not (fusion.gate or fusion.queries):
        return None
    assert isinstance(head, DsplHead)
    lags = _Lags(packed, windows)
    seen: dict[str, Tensor] = {}
    parts: dict[str, list[Tensor]] = {}
    index, real = [], []
    head.eval()
    prototypes = head.prototypes() if head.reads_regions else None
    with ExitStack() as hooks:
        for module, read in _readers(fusion, head.reads, lags, seen):
            hooks.callback(module.register_forward_hook(read).remove)
        for chosen in batches(np.arange(len(windows)), max(1, ROWS_AT_ONCE // windows.size)):
            batch, _ = packed.gather(windows, chosen)
            head(batch, prototypes)
            rows = windows.predicted(chosen)
            index.append(rows.index.ravel())
            real.append(rows.real.ravel())
            for name, weights in seen.items():  # (B, P, K)
                parts.setdefault(name, []).append(weights.flatten(0, 1))
    gate, attention = {}, {}
    for name, weights in parts.items():
        total, count = sum_by_row(weights, index, real, len(packed.time_s))
        mean = total / count
        if name == _GATE:
            gate = dict(zip(_gated(fusion, head.reads), mean.T, strict=True))
        else:
            attention[name] = mean
    return FusionWeights(gate, attention, lags.middle_s)


_GATE = "gate"  # no name of an attention: those have a "to"
_Hook = Callable[[nn.Module, tuple, Tensor], None]


def _readers(
    fusion: StreamFusion, streams: tuple[str, ...], lags: "_Lags", seen: dict[str, Tensor]
) -> list[tuple[nn.Module, _Hook]]:
    """Return the modules to listen to, each with a hook that writes its weights to `seen`."""
    found: list[tuple[nn.Module, _Hook]] = []
    for query in fusion.queries:
        others = [k for k in range(len(streams)) if k != query]
        layers = fusion.attentions[str(query)]
        assert isinstance(layers, nn.ModuleList)
        for layer, other in zip(layers, others, strict=True):
            name = f"{streams[query]} to {streams[other]}"

            def read_attention(
                module: nn.Module, inputs: tuple, _: Tensor, name: str = name
            ) -> None:
                assert isinstance(module, CrossModalAttention)
                seen[name] = lags.sums(module.weights(*inputs))

            found.append((layer, read_attention))

    def read_gate(module: nn.Module, inputs: tuple, _: Tensor) -> None:
        assert isinstance(module, GatedFusion)
        seen[_GATE] = lags.predicted(module.weights(*inputs).permute(1, 2, 0))

    if fusion.gate:
        found.append((fusion.gate, read_gate))
    return found


def _gated(fusion: StreamFusion, streams: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the streams that the gate weighs."""
    if fusion.gate_partner == "first":
        return f"{streams[0]} after the attention", streams[0]
    return streams


class _Lags:
    """Sums attention weights by how much later the row attended to is."""

    def __init__(self, packed: PackedFeatures, windows: Windows) -> None:
        self._is_dense = isinstance(windows, DenseWindows)
        steps_s = np.concatenate([np.diff(packed.time_s[span]) for _, span in packed.spans()])
        self._step_s = float(np.median(steps_s)) if len(steps_s) else 1.0
        self._reach_s = windows.size * self._step_s if self._is_dense else SPAN_S
        edges_s = np.linspace(-self._reach_s, self._reach_s, N_LAGS + 1)
        self.middle_s: Float64[np.ndarray, "L"] = (edges_s[:-1] + edges_s[1:]) / 2

    def predicted(self, x: Tensor) -> Tensor:
        """Return the predicted rows (B, P, K) of rows (B, T, K): all, or the last of a window."""
        return x if self._is_dense else x[:, -1:]

    def sums(self, weights: Tensor) -> Tensor:
        """Return weights (B, T, S) as sums by lag of the predicted rows (B, P, L)."""
        n_query, n_context = weights.shape[1:]
        weights = self.predicted(weights)
        context = torch.arange(n_context, device=weights.device)
        if self._is_dense:
            lag_s = (context - torch.arange(n_query, device=weights.device)[:, None]) * self._step_s
        else:  # rows at even steps, of which the last is the target
            lag_s = (context - (n_context - 1))[None] * (SPAN_S / n_context)
        place = ((lag_s + self._reach_s) / (2 * self._reach_s) * N_LAGS).long()
        place = place.clamp(0, N_LAGS - 1).expand_as(weights)
        return weights.new_zeros(*weights.shape[:2], N_LAGS).scatter_add_(2, place, weights)
