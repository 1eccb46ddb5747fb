"""Layers that combine the visual and the audio stream. W is the width of a stream."""

from functools import partial
from typing import assert_never

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from models.nn.attention import attend, check_heads, feed_forward, relu, split_heads, xavier_
from models.nn.cpu_dropout import Dropout
from models.nn.kinds import AttentionInit, BimodalFusion, Modality, QueryModality
from models.nn.old_tensors import load_old_names


class CrossModalAttention(nn.Module):
    """Attention of one stream to the other (Jung et al., 2026: visual to audio).

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


class GatedFusion(nn.Module):
    """A gated sum of the visual and the audio stream, with a gate per row and feature.

    g = sigmoid(MLP[Wv x ; Wa y]), then Linear, ReLU and dropout of g * Wv x + (1 - g) * Wa y
    (Jung et al., 2026; in their code y is the visual stream, here it is the audio stream). If
    only one modality of a row is valid, the gate selects it; if neither is, the visual stream,
    which then carries the state of neighbouring rows. `mlp_dropout` is that inside the MLP.

    Shapes: visual, audio (B, T, W), visual_valid, audio_valid (B, T) -> (B, T, W).
    """

    def __init__(self, width: int, dropout: float, mlp_dropout: float = 0.0) -> None:
        super().__init__()
        self.visual = nn.Linear(width, width)
        self.audio = nn.Linear(width, width)
        self.gate_mlp = nn.Sequential(
            nn.Linear(2 * width, width), relu(mlp_dropout), nn.Linear(width, width), nn.Sigmoid()
        )
        self.out = nn.Sequential(nn.Linear(width, width), nn.ReLU(), Dropout(dropout))
        load_old_names(self, {"image.": "visual.", "weigh.": "gate_mlp."})

    def forward(
        self,
        visual: Float[Tensor, "B T W"],
        audio: Float[Tensor, "B T W"],
        visual_valid: Bool[Tensor, "B T"],
        audio_valid: Bool[Tensor, "B T"],
    ) -> Float[Tensor, "B T W"]:
        """The fused stream."""
        x, y = self.visual(visual), self.audio(audio)
        gate = self.gate(x, y, visual_valid, audio_valid)
        return self.out(gate * x + (1 - gate) * y)

    def gate(
        self,
        x: Float[Tensor, "B T W"],
        y: Float[Tensor, "B T W"],
        visual_valid: Bool[Tensor, "B T"],
        audio_valid: Bool[Tensor, "B T"],
    ) -> Float[Tensor, "B T W"]:
        """The weight of the visual stream, in [0, 1], from both projected streams."""
        gate = self.gate_mlp(torch.cat([x, y], dim=-1))
        gate = gate.masked_fill(~visual_valid.unsqueeze(-1), 0)
        return gate.masked_fill(~audio_valid.unsqueeze(-1), 1)


class Concatenation(nn.Module):
    """[visual ; audio] through Linear 2W -> W, ReLU and dropout.

    A modality that is not valid in a row is zero there.

    Shapes: visual, audio (B, T, W), visual_valid, audio_valid (B, T) -> (B, T, W).
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.out = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), Dropout(dropout))

    def forward(
        self,
        visual: Float[Tensor, "B T W"],
        audio: Float[Tensor, "B T W"],
        visual_valid: Bool[Tensor, "B T"],
        audio_valid: Bool[Tensor, "B T"],
    ) -> Float[Tensor, "B T W"]:
        """The fused stream."""
        visual = visual.masked_fill(~visual_valid.unsqueeze(-1), 0)
        audio = audio.masked_fill(~audio_valid.unsqueeze(-1), 0)
        return self.out(torch.cat([visual, audio], dim=-1))


class StreamFusion(nn.Module):
    """Cross-modal attention, a gate or a concatenation, or attention and then a gate.

    `query_modality` is the stream that attends to the other one (Jung et al., 2026: the visual
    one). With `both` and no gate, the two results are concatenated. The gate weighs the visual
    stream against `gate_partner`: the audio stream, or the visual stream before the attention (the
    released code of the paper). `inner_dropout` is that inside attention and gate, `dropout` that
    of the result of a gate or concatenation. If the streams have different numbers of rows, the
    gate and the concatenation pair each visual row with the audio row nearest in time.

    Shapes: visual (B, T, W), audio (B, S, W) -> (B, R, W), where R = S if the result is the
    attention of the audio stream alone, and R = T otherwise.
    """

    def __init__(
        self,
        kind: BimodalFusion,
        width: int,
        *,
        query_modality: QueryModality,
        gate_partner: Modality,
        n_heads: int,
        dropout: float,
        inner_dropout: float = 0.0,
        attention_init: AttentionInit = "linear",
    ) -> None:
        super().__init__()
        self.gate_partner: Modality = gate_partner
        self.attention = self.audio_attention = self.gate = self.merge = None
        if kind in ("attention_gate", "attention"):
            attention = partial(CrossModalAttention, width, n_heads, inner_dropout, attention_init)
            match query_modality:
                case "visual":
                    self.attention = attention()
                case "audio":
                    self.audio_attention = attention()
                case "both":
                    self.attention = attention()
                    self.audio_attention = attention()
                case _:
                    assert_never(query_modality)
        match kind:
            case "attention_gate" | "gate":
                self.gate = GatedFusion(width, dropout, inner_dropout)
            case "concatenation":
                self.merge = Concatenation(width, dropout)
            case "attention":
                if self.attention and self.audio_attention:
                    self.merge = Concatenation(width, dropout)
            case _:
                assert_never(kind)

    def forward(
        self,
        visual: Float[Tensor, "B T W"],
        audio: Float[Tensor, "B S W"],
        visual_valid: Bool[Tensor, "B T"],
        audio_valid: Bool[Tensor, "B S"],
    ) -> Float[Tensor, "B R W"]:
        """The fused stream."""
        attended, audio_attended = visual, audio
        if self.attention:
            attended = self.attention(visual, audio, audio_valid)
        if self.audio_attention:
            audio_attended = self.audio_attention(audio, visual, visual_valid)
        if not self.gate and not self.merge:
            return attended if self.attention else audio_attended
        nearest = nearest_audio_rows(audio.shape[1], visual.shape[1], visual.device)
        audio_rows, rows_valid = audio_attended[:, nearest], audio_valid[:, nearest]
        if self.merge:
            return self.merge(attended, audio_rows, visual_valid, rows_valid)
        assert self.gate
        match self.gate_partner:
            case "visual":
                return self.gate(attended, visual, visual_valid, visual_valid)
            case "audio":
                return self.gate(attended, audio_rows, visual_valid, rows_valid)
            case _:
                assert_never(self.gate_partner)

    def valid_rows(
        self, visual_valid: Bool[Tensor, "B T"], audio_valid: Bool[Tensor, "B S"]
    ) -> Bool[Tensor, "B R"]:
        """Rows of the fused stream that depend on a valid row of their own time.

        A gate or concatenation reads the audio of a row without a face; attention alone does so
        only if both streams have the same rows.
        """
        if not self.gate and not self.merge:
            if visual_valid.shape[1] == audio_valid.shape[1]:
                return visual_valid | audio_valid
            return visual_valid if self.attention else audio_valid
        n_audio, n_visual = audio_valid.shape[1], visual_valid.shape[1]
        if self.gate and self.gate_partner == "visual" and n_visual != n_audio:
            return visual_valid
        nearest = nearest_audio_rows(n_audio, n_visual, visual_valid.device)
        return visual_valid | audio_valid[:, nearest]


def nearest_audio_rows(n_audio: int, n_visual: int, device: torch.device) -> Int64[Tensor, "T"]:
    """For each visual row the index of the audio row nearest in time.

    Both are spaced evenly over the same span, and their last rows coincide.
    """
    before_end = torch.arange(n_visual - 1, -1, -1, device=device) * n_audio / n_visual
    return n_audio - 1 - before_end.round().long()
