"""Layers that combine streams. W is the width of a stream, K their number."""

from collections.abc import Sequence
from typing import assert_never

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from models.nn.attention import (
    attend,
    attention_weights,
    check_heads,
    feed_forward,
    relu,
    split_heads,
    xavier_,
)
from models.nn.cpu_dropout import Dropout
from models.nn.kinds import AttentionInit, FusionKind, GatePartner
from models.nn.old_tensors import load_old_names


class CrossModalAttention(nn.Module):
    """Attention of one stream to another (Jung et al., 2026: visual to audio).

    Multi-head attention, residual, LayerNorm; feed-forward, residual, LayerNorm. In a window
    whose context has no valid row the attention adds its output bias only. Attention weights and
    the inner features of the feed-forward part have the same dropout.

    Shapes: query (B, T, W), context (B, S, W), context_valid (B, S) -> (B, T, W).
    """

    def __init__(
        self, width: int, n_heads: int, dropout: float = 0.0, init: AttentionInit = "linear"
    ) -> None:
        super().__init__()
        check_heads(width, n_heads)
        self.n_heads = n_heads
        self.dropout = dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        match init:
            case "linear":
                pass
            case "xavier":
                xavier_(self.query, self.key, self.value, self.out)
            case _:
                assert_never(init)
        self.norm_attended = nn.LayerNorm(width)
        self.feed_forward = feed_forward(width, dropout)
        self.norm_out = nn.LayerNorm(width)

    def forward(
        self,
        query: Float[Tensor, "B T W"],
        context: Float[Tensor, "B S W"],
        context_valid: Bool[Tensor, "B S"],
    ) -> Float[Tensor, "B T W"]:
        """The query stream with what it attends to in the context."""
        attended = attend(
            split_heads(self.query(query), self.n_heads),
            split_heads(self.key(context), self.n_heads),
            split_heads(self.value(context), self.n_heads),
            context_valid,
            self.dropout if self.training else 0.0,
        )
        x = self.norm_attended(query + self.out(attended))
        return self.norm_out(x + self.feed_forward(x))

    def weights(
        self,
        query: Float[Tensor, "B T W"],
        context: Float[Tensor, "B S W"],
        context_valid: Bool[Tensor, "B S"],
    ) -> Float[Tensor, "B T S"]:
        """How much each row attends to each row of the context: the mean over the heads.

        It sums to 1 over the context, or is 0 in a window without a valid row there.
        """
        return attention_weights(
            split_heads(self.query(query), self.n_heads),
            split_heads(self.key(context), self.n_heads),
            context_valid,
        ).mean(dim=1)


class GatedFusion(nn.Module):
    """A gated sum of streams, with a weight per row, stream and feature.

    Each stream x_k is projected, and the weights are softmax(MLP[W_1 x_1 ; ... ; W_K x_K], 0): the
    last stream has the logit 0. Of two streams the first has the weight sigmoid(MLP[...]) (Jung et
    al., 2026; in their code both are the visual stream). Linear, ReLU and dropout follow. A stream
    that is not valid in a row has no weight there; if none is, the first one is taken, which then
    carries the state of neighbouring rows. `mlp_dropout` is that inside the MLP.

    Shapes: streams K times (B, T, W), valid K times (B, T) -> (B, T, W).
    """

    def __init__(
        self, n_streams: int, width: int, dropout: float, mlp_dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.projections = nn.ModuleList(nn.Linear(width, width) for _ in range(n_streams))
        self.gate_mlp = nn.Sequential(
            nn.Linear(n_streams * width, width),
            relu(mlp_dropout),
            nn.Linear(width, (n_streams - 1) * width),
        )
        self.out = nn.Sequential(nn.Linear(width, width), nn.ReLU(), Dropout(dropout))
        old = {"image.": "projections.0.", "visual.": "projections.0.", "audio.": "projections.1."}
        load_old_names(self, old | {"weigh.": "gate_mlp."})

    def forward(
        self, streams: Sequence[Float[Tensor, "B T W"]], valid: Sequence[Bool[Tensor, "B T"]]
    ) -> Float[Tensor, "B T W"]:
        """The fused stream."""
        projected = [linear(x) for linear, x in zip(self.projections, streams, strict=True)]
        if len(projected) == 2:
            x, y = projected
            gate = self.gate_of_two(x, y, *valid)
            return self.out(gate * x + (1 - gate) * y)
        return self.out((self.gates(projected, valid) * torch.stack(projected)).sum(dim=0))

    def weights(
        self, streams: Sequence[Float[Tensor, "B T W"]], valid: Sequence[Bool[Tensor, "B T"]]
    ) -> Float[Tensor, "K B T"]:
        """The weight of each stream in each row: the mean over the features; they sum to 1."""
        projected = [linear(x) for linear, x in zip(self.projections, streams, strict=True)]
        if len(projected) == 2:
            x, y = projected
            gate = self.gate_of_two(x, y, *valid).mean(dim=-1)
            return torch.stack([gate, 1 - gate])
        return self.gates(projected, valid).mean(dim=-1)

    def gate_of_two(
        self,
        x: Float[Tensor, "B T W"],
        y: Float[Tensor, "B T W"],
        x_valid: Bool[Tensor, "B T"],
        y_valid: Bool[Tensor, "B T"],
    ) -> Float[Tensor, "B T W"]:
        """The weight of the first of two projected streams, in [0, 1]."""
        gate = torch.sigmoid(self.gate_mlp(torch.cat([x, y], dim=-1)))
        gate = gate.masked_fill(~x_valid.unsqueeze(-1), 0)
        return gate.masked_fill(~y_valid.unsqueeze(-1), 1)

    def gates(
        self, projected: Sequence[Float[Tensor, "B T W"]], valid: Sequence[Bool[Tensor, "B T"]]
    ) -> Float[Tensor, "K B T W"]:
        """The weight of each projected stream; their sum is 1."""
        logits = self.gate_mlp(torch.cat(list(projected), dim=-1))  # (B, T, (K - 1) * W)
        logits = torch.cat([logits, torch.zeros_like(projected[-1])], dim=-1)
        logits = torch.stack(logits.chunk(len(projected), dim=-1))  # (K, B, T, W)
        is_open = torch.stack(list(valid))  # (K, B, T)
        none = ~is_open.any(dim=0, keepdim=True)
        is_open = torch.cat([is_open[:1] | none, is_open[1:]])
        return logits.masked_fill(~is_open.unsqueeze(-1), -torch.inf).softmax(dim=0)


class Concatenation(nn.Module):
    """The streams side by side through Linear K * W -> W, ReLU and dropout.

    A stream that is not valid in a row is zero there.

    Shapes: streams K times (B, T, W), valid K times (B, T) -> (B, T, W).
    """

    def __init__(self, n_streams: int, width: int, dropout: float) -> None:
        super().__init__()
        self.out = nn.Sequential(nn.Linear(n_streams * width, width), nn.ReLU(), Dropout(dropout))

    def forward(
        self, streams: Sequence[Float[Tensor, "B T W"]], valid: Sequence[Bool[Tensor, "B T"]]
    ) -> Float[Tensor, "B T W"]:
        """The fused stream."""
        known = [
            x.masked_fill(~mask.unsqueeze(-1), 0) for x, mask in zip(streams, valid, strict=True)
        ]
        return self.out(torch.cat(known, dim=-1))


class StreamFusion(nn.Module):
    """Cross-modal attention, a gate or a concatenation, or attention and then a gate.

    The query is the stream that attends to each of the others in turn (Jung et al., 2026: the
    visual one), or None: each stream does, before any of them is changed. Attention of all without
    a gate is concatenated. The gate weighs the first stream against `gate_partner`: the other
    streams, or itself before the attention (the released code of the paper). `inner_dropout` is
    that inside attention and gate, `dropout` that of the result of a gate or concatenation. If the
    streams have different numbers of rows, gate and concatenation pair each row of the first one
    with the row of the others that is nearest in time.

    Shapes: streams K times (B, T_k, W), valid K times (B, T_k) -> (B, R, W), where R is the number
    of rows of the query if the result is its attention alone, and T_1 otherwise.
    """

    def __init__(
        self,
        kind: FusionKind,
        n_streams: int,
        width: int,
        *,
        query: int | None,
        gate_partner: GatePartner,
        n_heads: int,
        dropout: float,
        inner_dropout: float = 0.0,
        attention_init: AttentionInit = "linear",
    ) -> None:
        super().__init__()
        self.gate_partner: GatePartner = gate_partner
        self.queries: tuple[int, ...] = ()
        if kind in ("attention_gate", "attention"):
            self.queries = tuple(range(n_streams)) if query is None else (query,)
        self.attentions = nn.ModuleDict(
            {
                str(number): nn.ModuleList(
                    CrossModalAttention(width, n_heads, inner_dropout, attention_init)
                    for _ in range(n_streams - 1)
                )
                for number in self.queries
            }
        )
        self.gate = self.merge = None
        match kind:
            case "attention_gate" | "gate":
                n_gated = 2 if gate_partner == "first" else n_streams
                self.gate = GatedFusion(n_gated, width, dropout, inner_dropout)
            case "concatenation":
                self.merge = Concatenation(n_streams, width, dropout)
            case "attention":
                if len(self.queries) > 1:
                    self.merge = Concatenation(n_streams, width, dropout)
            case _:
                assert_never(kind)
        old = {"attention.": "attentions.0.0.", "audio_attention.": "attentions.1.0."}
        load_old_names(self, old)

    def forward(
        self, streams: Sequence[Float[Tensor, "B _ W"]], valid: Sequence[Bool[Tensor, "B _"]]
    ) -> Float[Tensor, "B R W"]:
        """The fused stream."""
        attended = list(streams)
        for number in self.queries:
            layers = self.attentions[str(number)]
            others = [k for k in range(len(streams)) if k != number]
            for layer, other in zip(layers, others, strict=True):  # pyright: ignore[reportArgumentType]
                attended[number] = layer(attended[number], streams[other], valid[other])
        if not self.gate and not self.merge:
            return attended[self.queries[0]]
        if self.gate and self.gate_partner == "first":
            return self.gate((attended[0], streams[0]), (valid[0], valid[0]))
        paired, paired_valid = [attended[0]], [valid[0]]
        for x, mask in zip(attended[1:], valid[1:], strict=True):
            nearest = nearest_rows(x.shape[1], attended[0].shape[1], x.device)
            paired.append(x[:, nearest])
            paired_valid.append(mask[:, nearest])
        last = self.gate or self.merge
        assert last  # one of them, as above
        return last(paired, paired_valid)

    def valid_rows(self, valid: Sequence[Bool[Tensor, "B _"]]) -> Bool[Tensor, "B R"]:
        """Rows of the fused stream that depend on a valid row of their own time.

        A gate or concatenation reads the other streams of a row that is not valid in the first one;
        attention alone does so only if the streams have the same rows.
        """
        alone = not self.gate and not self.merge
        base = valid[self.queries[0] if alone else 0]
        n_rows, found = base.shape[1], base
        pairs_rows = not alone and not (self.gate and self.gate_partner == "first")
        for mask in valid:
            if mask is not base and (pairs_rows or mask.shape[1] == n_rows):
                found = found | mask[:, nearest_rows(mask.shape[1], n_rows, mask.device)]
        return found


def nearest_rows(n_from: int, n_to: int, device: torch.device) -> Int64[Tensor, "T"]:
    """For each of `n_to` rows the index of the one nearest in time of `n_from` rows.

    Both are spaced evenly over the same span, and their last rows coincide.
    """
    before_end = torch.arange(n_to - 1, -1, -1, device=device) * n_from / n_to
    return n_from - 1 - before_end.round().long()
