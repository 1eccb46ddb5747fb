"""Layers that combine the visual and the audio stream. W is the width of a stream."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from models.nn.attention import attend, check_heads, feed_forward, split_heads
from models.nn.cpu_dropout import Dropout
from models.nn.old_tensors import load_old_names


class CrossModalAttention(nn.Module):
    """Attention of one stream to the other (Jung et al., 2026: visual to audio).

    Multi-head attention, residual, LayerNorm; feed-forward, residual, LayerNorm. In a window
    whose context has no valid row the attention adds its output bias only.

    Shapes: query (B, T, W), context (B, S, W), context_valid (B, S) -> (B, T, W).
    """

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        check_heads(width, n_heads)
        self.n_heads = n_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.norm_attended = nn.LayerNorm(width)
        self.feed_forward = feed_forward(width)
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
        )
        x = self.norm_attended(query + self.out(attended))
        return self.norm_out(x + self.feed_forward(x))


class GatedFusion(nn.Module):
    """A gated sum of the visual and the audio stream, with a gate per row and feature.

    g = sigmoid(MLP[Wv x ; Wa y]), then Linear, ReLU and dropout of g * Wv x + (1 - g) * Wa y
    (Jung et al., 2026; in their code y is the visual stream, here it is the audio stream). If
    only one modality of a row is valid, the gate selects it; if neither is, the visual stream,
    which then carries the state of neighbouring rows.

    Shapes: visual, audio (B, T, W), visual_valid, audio_valid (B, T) -> (B, T, W).
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.visual = nn.Linear(width, width)
        self.audio = nn.Linear(width, width)
        self.gate_mlp = nn.Sequential(
            nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, width), nn.Sigmoid()
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
