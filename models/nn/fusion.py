"""Fusion of the image and the audio stream: attention across them, then one stream of both.

Axis letters beyond those of features/records.py: W width of a stream, S rows that are asked.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from models.nn.attention import attend, check_heads, feed_forward, split_heads
from models.nn.cpu_dropout import Dropout


class CrossModalAttention(nn.Module):
    """One stream asks the other: the image asks the audio (Jung et al., 2026), or the reverse.

    Multi-head attention, residual, LayerNorm; feed-forward, residual, LayerNorm. In a window
    without any valid row of the asked stream nothing is attended to: the attention adds its
    output bias only.

    Shapes: asking (B, T, W), asked (B, S, W), asked_valid (B, S) -> (B, T, W).
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
        asking: Float[Tensor, "B T W"],
        asked: Float[Tensor, "B S W"],
        asked_valid: Bool[Tensor, "B S"],
    ) -> Float[Tensor, "B T W"]:
        """The asking stream with what it found in the asked one."""
        attended = attend(
            split_heads(self.query(asking), self.n_heads),
            split_heads(self.key(asked), self.n_heads),
            split_heads(self.value(asked), self.n_heads),
            asked_valid,
        )
        x = self.norm_attended(asking + self.out(attended))
        return self.norm_out(x + self.feed_forward(x))


class GatedFusion(nn.Module):
    """A mixture of the image and the audio stream, weighed anew at each number of each row.

    g = sigmoid(MLP[Wi x ; Wa y]), mixture g * Wi x + (1 - g) * Wa y, then Linear, ReLU, dropout
    (Jung et al., 2026; there y is the image stream, here it is the audio stream). Where only
    one modality is valid the gate gives it everything; where neither is, the image stream,
    which then speaks for the neighbouring rows.

    Shapes: image, audio (B, T, W), image_valid, audio_valid (B, T) -> (B, T, W).
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.image = nn.Linear(width, width)
        self.audio = nn.Linear(width, width)
        self.weigh = nn.Sequential(
            nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, width), nn.Sigmoid()
        )
        self.out = nn.Sequential(nn.Linear(width, width), nn.ReLU(), Dropout(dropout))

    def forward(
        self,
        image: Float[Tensor, "B T W"],
        audio: Float[Tensor, "B T W"],
        image_valid: Bool[Tensor, "B T"],
        audio_valid: Bool[Tensor, "B T"],
    ) -> Float[Tensor, "B T W"]:
        """The fused stream."""
        x, y = self.image(image), self.audio(audio)
        gate = self.gate(x, y, image_valid, audio_valid)
        return self.out(gate * x + (1 - gate) * y)

    def gate(
        self,
        x: Float[Tensor, "B T W"],
        y: Float[Tensor, "B T W"],
        image_valid: Bool[Tensor, "B T"],
        audio_valid: Bool[Tensor, "B T"],
    ) -> Float[Tensor, "B T W"]:
        """The weight of the image, in [0, 1], given both projected streams."""
        gate = self.weigh(torch.cat([x, y], dim=-1))
        gate = gate.masked_fill(~image_valid.unsqueeze(-1), 0)
        return gate.masked_fill(~audio_valid.unsqueeze(-1), 1)


class Concatenation(nn.Module):
    """Both streams side by side, with no weighing of one against the other.

    [image ; audio] through Linear 2W -> W, ReLU, dropout: the plain fusion that the gate is
    measured against. A modality that is not valid in a row is zero there; where neither is,
    the row says nothing but the bias.

    Shapes: image, audio (B, T, W), image_valid, audio_valid (B, T) -> (B, T, W).
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.out = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), Dropout(dropout))

    def forward(
        self,
        image: Float[Tensor, "B T W"],
        audio: Float[Tensor, "B T W"],
        image_valid: Bool[Tensor, "B T"],
        audio_valid: Bool[Tensor, "B T"],
    ) -> Float[Tensor, "B T W"]:
        """The fused stream."""
        seen = image.masked_fill(~image_valid.unsqueeze(-1), 0)
        heard = audio.masked_fill(~audio_valid.unsqueeze(-1), 0)
        return self.out(torch.cat([seen, heard], dim=-1))
