"""The network of the heads `dspl` and `released`."""

from collections.abc import Mapping
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

OLD_NAMES = {  # of tensors, when there were two streams
    "bank.": "prompts.",
    "standard_visual.": "standards.0.",
    "standard_audio.": "standards.1.",
    "visual.": "branches.0.",
    "audio.": "branches.1.",
    "skip_visual.": "skips.0.",
    "skip_audio.": "skips.1.",
}


class DsplHead(Head):
    """Adapter, a temporal branch per stream, fusion, V and A (Jung et al., 2026).

    One residual adapter on the embedding that is compared with texts feeds both its temporal branch
    and the region logits, so the region loss shapes what V and A are predicted from. Without texts
    it is on the first stream that is read. Every row of a dense window is predicted; a causal
    window is predicted from its last valid row, or the mean of them. With two streams:

        visual -> adapter -+-> temporal -> attention -> gate -> 2-layer head -> V, A
                           |                  ^          ^
        audio -------------|---> temporal ----+----------+
                           +-> scale * cos(., prototypes) -> region logits

    With a prior, V and A are the zero-shot prediction plus what the network adds, at first zero.
    """

    def __init__(self, config: DsplOptions, inputs: HeadInputs) -> None:
        super().__init__()
        self.config = config
        self.reads_regions = config.reads_regions
        names = tuple(inputs.streams)
        sizes = {name: len(each.mean) for name, each in inputs.streams.items()}
        self.number = {name: str(number) for number, name in enumerate(names)}
        self.reads = config.read_streams(names)
        self.adapted = config.text_stream or self.reads[0]
        self.standards = nn.ModuleList(self._standardise(inputs.streams[name]) for name in names)
        match config.adapter:
            case "residual":
                self.adapter = ResidualAdapter(sizes[self.adapted])
            case "none":
                self.adapter = nn.Identity()
            case _:
                assert_never(config.adapter)
        self.branches = nn.ModuleDict(
            {self.number[name]: self._branch(sizes[name]) for name in self.reads}
        )
        self.fuse = self._fusion() if len(self.reads) > 1 else None
        width = config.width
        n_probabilities = inputs.grid.n_regions if config.region_link == "probabilities" else 0
        self.va = nn.Sequential(
            nn.Linear(width + n_probabilities, width // 2),
            nn.ReLU(),
            Dropout(config.dropout),
            nn.Linear(width // 2, 2),
        )
        self.skips = nn.ModuleDict()
        if config.skip_dropout is not None:
            for name in self.reads:
                skip = LinearSkip(sizes[name], config.skip_spans, config.skip_dropout)
                self.skips[self.number[name]] = skip
        self.prompts = self.regions = None
        if config.prompts is not None:
            n_text = sizes[self.adapted]
            self.prompts = inputs.prompts(config.prompts)
            on_stream = config.region_on in ("temporal", "fused")
            self.regions = RegionLogits(width if on_stream else n_text, n_text, config.logit_scale)
        self.link = RegionToVa(inputs.grid) if config.region_link == "barycentre" else None
        self.prior = self._prior(inputs)
        load_old_names(self, OLD_NAMES)

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

    def _fusion(self) -> StreamFusion:
        config = self.config
        assert config.query is not None  # `for_streams` has been called
        return StreamFusion(
            config.fusion,  # pyright: ignore[reportArgumentType]: no stream alone
            len(self.reads),
            config.width,
            query=None if config.query == "all" else self.reads.index(config.query),
            gate_partner=config.gate_partner,
            n_heads=config.n_heads,
            dropout=config.dropout if config.fusion_dropout is None else config.fusion_dropout,
            inner_dropout=config.fusion_dropout or 0.0,
            attention_init=config.attention_init,
        )

    def _prior(self, inputs: HeadInputs) -> TextPrior | None:
        """The prior; what is added to it starts at zero, as linear skip connections do anyway."""
        match self.config.prior:
            case "none":
                return None
            case "zero_shot":
                for parameter in self.va[-1].parameters():
                    nn.init.zeros_(parameter)
                assert self.prompts is not None  # `DsplOptions` checks it
                with torch.no_grad():
                    prototypes = self.prompts()
                start, is_causal = inputs.fit_prior(prototypes), self.config.windows == "causal"
                return TextPrior(inputs.grid, start, prototypes, is_causal=is_causal)
            case _:
                assert_never(self.config.prior)

    def prototypes(self) -> Float[Tensor, "R D"] | None:
        """Unit text features of the regions under the current context; None without prompts."""
        return None if self.prompts is None else self.prompts()

    def forward(self, batch: Batch, prototypes: Float[Tensor, "R D"] | None = None) -> HeadOutput:
        """V and A, and region logits if prototypes are given or V and A read the regions."""
        if prototypes is None and self.reads_regions:
            prototypes = self.prototypes()
        standard = {
            name: self.standards[int(self.number[name])](batch[name].values)
            for name in dict.fromkeys((*self.reads, self.adapted))
        }  # (B, T_k, D_k) each
        adapted = self.adapter(standard[self.adapted])
        streams = {
            name: self._stream(
                name, adapted if name == self.adapted else standard[name], batch[name].valid
            )
            for name in self.reads
        }  # (B, T_k, W) each
        fused, fused_valid = self._fuse(streams, batch)
        regions = None
        if prototypes is not None and self.regions is not None:
            embedding, valid = self._region_input(batch, adapted, streams, fused, fused_valid)
            regions = RegionOutput(self.regions(embedding, prototypes), valid)
        va = self._va(self._predicted_rows(fused, fused_valid), regions)
        for name in self.reads if self.skips else ():
            valid = batch[name].valid
            skip = self.skips[self.number[name]](standard[name], valid)
            va = va + self._predicted_rows(skip, valid)
        if self.prior:
            assert prototypes is not None  # the head reads regions
            va = va + self.prior(batch[self.adapted].values, batch[self.adapted].valid, prototypes)
        match self.config.squash:
            case "none":
                return HeadOutput(va, regions)
            case "tanh":
                return HeadOutput(torch.tanh(va), regions)
            case _:
                assert_never(self.config.squash)

    def _stream(self, name: str, x: Tensor, valid: Tensor) -> Tensor:
        """The embeddings of a stream through its temporal branch."""
        branch = self.branches[self.number[name]]
        assert isinstance(branch, nn.ModuleDict)
        if "bottleneck" in branch:
            x = branch["bottleneck"](x)
        return branch["temporal"](x, valid)

    def _fuse(
        self, streams: Mapping[str, Tensor], batch: Batch
    ) -> tuple[Float[Tensor, "B R W"], Bool[Tensor, "B R"]]:
        """The stream that V and A are predicted from, and its valid rows."""
        valid = [batch[name].valid for name in self.reads]
        if self.fuse is None:
            return streams[self.reads[0]], valid[0]
        return self.fuse([streams[name] for name in self.reads], valid), self.fuse.valid_rows(valid)

    def _region_input(
        self,
        batch: Batch,
        adapted: Float[Tensor, "B T Dt"],
        streams: Mapping[str, Tensor],
        fused: Float[Tensor, "B R W"],
        fused_valid: Bool[Tensor, "B R"],
    ) -> tuple[Float[Tensor, "B P D"], Bool[Tensor, "B P"]]:
        """The embedding that the region logits are computed from, and its valid rows."""
        frozen, valid = batch[self.adapted].values, batch[self.adapted].valid
        match self.config.region_on:
            case "fused":
                embedding, valid = fused, fused_valid
            case "temporal":
                embedding = streams[self.adapted]
            case "adapted":
                standard = self.standards[int(self.number[self.adapted])]
                assert isinstance(standard, Standardise)
                embedding = standard.inverse(adapted)
            case "frozen":
                embedding = frozen
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
