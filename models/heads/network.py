"""The network of the heads `dspl` and `released`."""

from typing import assert_never

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from models.data.batch import Batch
from models.data.statistics import Statistics
from models.heads.base import Head, HeadInputs, HeadOutput, RegionOutput
from models.heads.config import DsplOptions
from models.nn.adapter import ResidualAdapter, Standardise
from models.nn.cpu_dropout import Dropout
from models.nn.fusion import StreamFusion
from models.nn.linear_skip import LinearSkip
from models.nn.old_tensors import load_old_names
from models.nn.region_logits import RegionLogits, RegionToVa
from models.nn.temporal import temporal_branch
from models.nn.text_prior import TextPrior


class DsplHead(Head):
    """Adapter, a temporal branch per modality, fusion, V and A (Jung et al., 2026).

    One residual adapter on the CLIP embedding feeds both the temporal branch and the region
    logits, so the region loss shapes what V and A are predicted from. Every row of a dense window
    is predicted; a causal window is predicted from its last valid row, or the mean of them.

        visual -> adapter -+-> temporal -> attention -> gate -> 2-layer head -> V, A
                           |                  ^          ^
        audio -------------|---> temporal ----+----------+
                           +-> scale * cos(., prototypes) -> region logits

    With a prior, V and A are the zero-shot prediction plus what the network adds, at first zero.
    """

    def __init__(self, config: DsplOptions, inputs: HeadInputs) -> None:
        super().__init__()
        self.config = config
        self.reads_regions = config.region_link != "none" or config.prior != "none"
        width, n_visual, n_audio = config.width, len(inputs.visual.mean), len(inputs.audio.mean)
        self.standard_visual = self._standardise(inputs.visual)
        self.standard_audio = self._standardise(inputs.audio)
        match config.adapter:
            case "residual":
                self.adapter = ResidualAdapter(n_visual)
            case "none":
                self.adapter = nn.Identity()
            case _:
                assert_never(config.adapter)
        self.visual = self._branch(n_visual) if config.streams != "audio" else None
        self.audio = self._branch(n_audio) if config.streams != "visual" else None
        self.fuse = None
        if config.streams not in ("visual", "audio"):
            self.fuse = StreamFusion(
                config.streams,
                width,
                query_modality=config.query_modality,
                gate_partner=config.gate_partner,
                n_heads=config.n_heads,
                dropout=config.dropout if config.fusion_dropout is None else config.fusion_dropout,
                inner_dropout=config.fusion_dropout or 0.0,
                attention_init=config.attention_init,
            )
        n_probabilities = inputs.grid.n_regions if config.region_link == "probabilities" else 0
        self.va = nn.Sequential(
            nn.Linear(width + n_probabilities, width // 2),
            nn.ReLU(),
            Dropout(config.dropout),
            nn.Linear(width // 2, 2),
        )
        self.skip_visual = self._skip(n_visual) if self.visual else None
        self.skip_audio = self._skip(n_audio) if self.audio else None
        self.prompts = inputs.prompts(config.prompts)
        on_stream = config.region_on in ("temporal", "fused")
        self.regions = RegionLogits(width if on_stream else n_visual, n_visual, config.logit_scale)
        self.link = RegionToVa(inputs.grid) if config.region_link == "barycentre" else None
        self.prior = self._prior(inputs)
        load_old_names(self, {"bank.": "prompts."})

    def _standardise(self, statistics: Statistics) -> Standardise:
        match self.config.inputs:
            case "standardised":
                return Standardise(statistics.mean, statistics.std)
            case "raw":
                return Standardise(
                    torch.zeros_like(statistics.mean), torch.ones_like(statistics.std)
                )
            case _:
                assert_never(self.config.inputs)

    def _branch(self, n_inputs: int) -> nn.ModuleDict:
        config = self.config
        parts: dict[str, nn.Module] = {}
        if config.bottleneck:
            parts["bottleneck"] = nn.Linear(n_inputs, config.bottleneck)
        parts["temporal"] = temporal_branch(
            config.temporal,
            config.bottleneck or n_inputs,
            config.width,
            n_heads=config.n_heads,
            dropout=config.dropout,
            positions=config.positions,
        )
        return nn.ModuleDict(parts)

    def _skip(self, n_inputs: int) -> LinearSkip | None:
        dropout = self.config.skip_dropout
        return None if dropout is None else LinearSkip(n_inputs, self.config.skip_spans, dropout)

    def _prior(self, inputs: HeadInputs) -> TextPrior | None:
        """The prior; what is added to it starts at zero, as linear skip connections do anyway."""
        match self.config.prior:
            case "none":
                return None
            case "zero_shot":
                for parameter in self.va[-1].parameters():
                    nn.init.zeros_(parameter)
                with torch.no_grad():
                    prototypes = self.prompts()
                start, is_causal = inputs.fit_prior(prototypes), self.config.windows == "causal"
                return TextPrior(inputs.grid, start, prototypes, is_causal=is_causal)
            case _:
                assert_never(self.config.prior)

    def prototypes(self) -> Float[Tensor, "R D"]:
        """Unit text features of the regions under the current context."""
        return self.prompts()

    def forward(self, batch: Batch, prototypes: Float[Tensor, "R D"] | None = None) -> HeadOutput:
        """V and A, and region logits if prototypes are given or V and A read the regions."""
        if prototypes is None and self.reads_regions:
            prototypes = self.prototypes()
        visual = self.standard_visual(batch.visual)  # (B, T, Dv)
        adapted = self.adapter(visual)
        audio = self.standard_audio(batch.audio)  # (B, S, Da)
        visual_stream = _stream(self.visual, adapted, batch.visual_valid)
        audio_stream = _stream(self.audio, audio, batch.audio_valid)
        fused, fused_valid = self._fuse(visual_stream, audio_stream, batch)
        regions = None
        if prototypes is not None:
            embedding, valid = self._region_input(batch, adapted, visual_stream, fused, fused_valid)
            regions = RegionOutput(self.regions(embedding, prototypes), valid)
        va = self._va(self._predicted_rows(fused, fused_valid), regions)
        if self.skip_visual:
            skip = self.skip_visual(visual, batch.visual_valid)
            va = va + self._predicted_rows(skip, batch.visual_valid)
        if self.skip_audio:
            skip = self.skip_audio(audio, batch.audio_valid)
            va = va + self._predicted_rows(skip, batch.audio_valid)
        if self.prior:
            assert prototypes is not None  # the head reads regions
            va = va + self.prior(batch.visual, batch.visual_valid, prototypes)
        match self.config.squash:
            case "none":
                return HeadOutput(va, regions)
            case "tanh":
                return HeadOutput(torch.tanh(va), regions)
            case _:
                assert_never(self.config.squash)

    def _fuse(
        self, visual: Tensor | None, audio: Tensor | None, batch: Batch
    ) -> tuple[Float[Tensor, "B R W"], Bool[Tensor, "B R"]]:
        """The stream that V and A are predicted from, and its valid rows."""
        if visual is not None and audio is not None:
            assert self.fuse is not None
            fused = self.fuse(visual, audio, batch.visual_valid, batch.audio_valid)
            return fused, self.fuse.valid_rows(batch.visual_valid, batch.audio_valid)
        if visual is not None:
            return visual, batch.visual_valid
        assert audio is not None  # there is at least one branch
        return audio, batch.audio_valid

    def _region_input(
        self,
        batch: Batch,
        adapted: Float[Tensor, "B T Dv"],
        visual_stream: Tensor | None,
        fused: Float[Tensor, "B R W"],
        fused_valid: Bool[Tensor, "B R"],
    ) -> tuple[Float[Tensor, "B P D"], Bool[Tensor, "B P"]]:
        """The embedding that the region logits are computed from, and its valid rows."""
        valid = batch.visual_valid
        match self.config.region_on:
            case "fused":
                embedding, valid = fused, fused_valid
            case "temporal":
                assert visual_stream is not None  # `DsplOptions` checks it
                embedding = visual_stream
            case "adapted":
                embedding = self.standard_visual.inverse(adapted)
            case "frozen":
                embedding = batch.visual
            case _:
                assert_never(self.config.region_on)
        dense = self.config.windows == "dense"
        return (
            self._predicted_rows(embedding, valid),
            valid if dense else valid.any(dim=1, keepdim=True),
        )

    def _predicted_rows(
        self, x: Float[Tensor, "B R K"], valid: Bool[Tensor, "B R"]
    ) -> Float[Tensor, "B P K"]:
        """Every row of a dense window; of a causal one the mean of the valid rows, or the last."""
        if self.config.windows == "dense":
            return x
        mask = valid.unsqueeze(-1)  # (B, R, 1)
        x = x.masked_fill(~mask, 0)
        match self.config.pooling:
            case "mean":
                return x.sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True).clamp(min=1)
            case "last":
                number = torch.arange(1, valid.shape[1] + 1, device=x.device)
                last = (valid * number).argmax(dim=1)  # (B,); 0 if no row is valid
                return torch.take_along_dim(x, last[:, None, None], dim=1)
            case _:
                assert_never(self.config.pooling)

    def _va(self, fused: Float[Tensor, "B P W"], regions: RegionOutput | None) -> Tensor:
        """V and A from the fused stream, and from the regions if the config links them."""
        if regions is None or self.config.region_link == "none":
            return self.va(fused)
        probabilities = regions.logits.softmax(dim=-1) * regions.valid.unsqueeze(-1)  # (B, P, R)
        match self.config.region_link:
            case "probabilities":
                return self.va(torch.cat([fused, probabilities], dim=-1))
            case "barycentre":
                assert self.link
                return self.va(fused) + self.link(probabilities, regions.valid)
            case _:
                assert_never(self.config.region_link)


def _stream(branch: nn.ModuleDict | None, x: Tensor, valid: Tensor) -> Tensor | None:
    if branch is None:
        return None
    if "bottleneck" in branch:
        x = branch["bottleneck"](x)
    return branch["temporal"](x, valid)
