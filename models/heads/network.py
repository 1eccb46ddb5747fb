"""The network of the method: two temporal branches, their fusion, V and A, the region logits."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from models.data.batch import Batch
from models.data.statistics import Statistics
from models.heads.base import Head, HeadInputs, HeadOutput, Regions
from models.heads.config import DsplOptions
from models.nn.adapter import ResidualAdapter, Standardise
from models.nn.cpu_dropout import Dropout
from models.nn.linear_skip import LinearSkip
from models.nn.region_logits import RegionLogits, RegionToVa
from models.nn.stream_fusion import StreamFusion, temporal_branch


class DsplHead(Head):
    """Adapter, temporal branch per modality, fusion, V and A (Jung et al., 2026).

    One residual adapter on the CLIP embedding feeds both the temporal branch and the region
    logits, so the region loss shapes what V and A are read from. Of dense windows every row is
    predicted; of a causal one the mean of its valid rows is, which speaks for its last row.

        visual -> adapter -+-> temporal -> attention -> gate -> 2-layer head -> V, A
                           |                  ^          ^
        audio -------------|---> temporal ----+----------+
                           +-> scale * cos(., prototypes) -> region logits
    """

    def __init__(self, config: DsplOptions, inputs: HeadInputs) -> None:
        super().__init__()
        self.config = config
        width, n_visual = config.width, len(inputs.visual.mean)
        standard = config.inputs == "standardised"
        self.standard_visual = Standardise(inputs.visual if standard else _as_is(inputs.visual))
        self.standard_audio = Standardise(inputs.audio if standard else _as_is(inputs.audio))
        self.adapter = ResidualAdapter(n_visual) if config.adapter == "residual" else nn.Identity()
        self.visual = self._branch(n_visual) if config.fusion != "audio" else None
        self.audio = self._branch(len(inputs.audio.mean)) if config.fusion != "visual" else None
        self.fuse = None
        if self.visual and self.audio:
            self.fuse = StreamFusion(
                config.fusion,
                width,
                asks=config.asks,
                gate_partner=config.gate_partner,
                n_heads=config.n_heads,
                dropout=config.dropout,
            )
        n_told = inputs.grid.n_regions if config.region_link == "probabilities" else 0
        self.va = nn.Sequential(
            nn.Linear(width + n_told, width // 2),
            nn.ReLU(),
            Dropout(config.dropout),
            nn.Linear(width // 2, 2),
        )
        self.skip_visual = self._skip(n_visual) if self.visual else None
        self.skip_audio = self._skip(len(inputs.audio.mean)) if self.audio else None
        self.bank = inputs.bank(config.prompts)
        on_stream = config.region_on in ("temporal", "fused")
        self.regions = RegionLogits(width if on_stream else n_visual, n_visual, config.logit_scale)
        self.link = RegionToVa(inputs.grid) if config.region_link == "barycentre" else None

    def _branch(self, n_inputs: int) -> nn.ModuleDict:
        """The way of one modality from its embedding to a stream."""
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
        """The linear reading of one modality."""
        dropout = self.config.skip_dropout
        return None if dropout is None else LinearSkip(n_inputs, self.config.skip_spans, dropout)

    def prototypes(self) -> Float[Tensor, "R D"]:
        """Unit text features of the regions under the current context."""
        return self.bank()

    @property
    def reads_regions(self) -> bool:
        """Whether the config links V and A to the regions."""
        return self.config.region_link != "none"

    def forward(self, batch: Batch, prototypes: Float[Tensor, "R D"] | None = None) -> HeadOutput:
        """V and A, and region logits where prototypes are given or V and A are told of regions."""
        if prototypes is None and self.reads_regions:
            prototypes = self.prototypes()
        seen = self.standard_visual(batch.visual)  # (B, T, Dv)
        adapted = self.adapter(seen)
        heard = self.standard_audio(batch.audio)  # (B, S, Da)
        image = _stream(self.visual, adapted, batch.visual_valid)
        audio = _stream(self.audio, heard, batch.audio_valid)
        fused, known = self._fused(image, audio, batch)
        regions = None
        if prototypes is not None:
            on, valid = self._regions_on(adapted, image, (fused, known), batch)
            regions = Regions(self.regions(on, prototypes), valid)
        va = self._va(self._targets(fused, known), regions)
        if self.skip_visual:
            va = va + self._targets(self.skip_visual(seen, batch.visual_valid), batch.visual_valid)
        if self.skip_audio:
            va = va + self._targets(self.skip_audio(heard, batch.audio_valid), batch.audio_valid)
        return HeadOutput(torch.tanh(va) if self.config.squash == "tanh" else va, regions)

    def _fused(
        self, image: Tensor | None, audio: Tensor | None, batch: Batch
    ) -> tuple[Float[Tensor, "B R W"], Bool[Tensor, "B R"]]:
        """The stream that V and A are read from, and which of its rows stand on something."""
        if image is None or audio is None:
            if image is not None:
                return image, batch.visual_valid
            assert audio is not None  # one of the two branches is always there
            return audio, batch.audio_valid
        assert self.fuse is not None
        fused = self.fuse(image, audio, batch.visual_valid, batch.audio_valid)
        return fused, self.fuse.known(batch.visual_valid, batch.audio_valid)

    def _regions_on(
        self,
        adapted: Float[Tensor, "B T Dv"],
        image: Tensor | None,
        fused: tuple[Tensor, Tensor],
        batch: Batch,
    ) -> tuple[Float[Tensor, "B P D"], Bool[Tensor, "B P"]]:
        """What the region logits are read from, and where that stands on something."""
        valid = batch.visual_valid
        match self.config.region_on:
            case "fused":
                on, valid = fused
            case "temporal":
                assert image is not None  # the config sees to it
                on = image
            case "adapted":
                on = self.standard_visual.back(adapted)
            case "frozen":
                on = batch.visual
        dense = self.config.windows == "dense"
        return self._targets(on, valid), valid if dense else valid.any(dim=1, keepdim=True)

    def _targets(
        self, x: Float[Tensor, "B R K"], valid: Bool[Tensor, "B R"]
    ) -> Float[Tensor, "B P K"]:
        """What is said of the predicted rows: each row's own, or the mean of a causal window."""
        if self.config.windows == "dense":
            return x
        weight = valid.unsqueeze(-1).to(x.dtype)  # (B, R, 1)
        total = (x.masked_fill(~valid.unsqueeze(-1), 0)).sum(dim=1, keepdim=True)
        return total / weight.sum(dim=1, keepdim=True).clamp(min=1)

    def _va(self, fused: Float[Tensor, "B P W"], regions: Regions | None) -> Tensor:
        """V and A from the fused stream, and from the regions by the link of the config."""
        if regions is None or self.config.region_link == "none":
            return self.va(fused)
        shares = regions.logits.softmax(dim=-1) * regions.valid.unsqueeze(-1)  # (B, P, R)
        if self.link:
            return self.va(fused) + self.link(shares, regions.valid)
        return self.va(torch.cat([fused, shares], dim=-1))


def _stream(branch: nn.ModuleDict | None, x: Tensor, valid: Tensor) -> Tensor | None:
    """What a branch makes of its modality; None where there is no branch."""
    if branch is None:
        return None
    if "bottleneck" in branch:
        x = branch["bottleneck"](x)
    return branch["temporal"](x, valid)


def _as_is(statistics: Statistics) -> Statistics:
    """Statistics by which nothing is changed."""
    return Statistics(torch.zeros_like(statistics.mean), torch.ones_like(statistics.std))
