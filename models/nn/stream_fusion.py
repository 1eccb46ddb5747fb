"""How the two streams become the one that V and A are read from, by the names of the config."""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from models.nn.bigru import BiGru
from models.nn.fusion import Concatenation, CrossModalAttention, GatedFusion
from models.nn.tcn import Tcn
from models.nn.transformer import Positions, TemporalTransformer

TemporalName = Literal["gru", "tcn", "transformer"]
FusionName = Literal["attention_gate", "attention", "gate", "concatenation", "visual", "audio"]
Modality = Literal["image", "audio"]

N_LAYERS = 2  # of the temporal transformer
N_ROWS_MAX = 1024  # that it has learned positions for


def temporal_branch(
    name: TemporalName,
    n_inputs: int,
    width: int,
    *,
    n_heads: int,
    dropout: float,
    positions: Positions,
) -> nn.Module:
    """The branch of that name, for embeddings of `n_inputs` numbers."""
    if name == "gru":
        return BiGru(n_inputs, width)
    if name == "tcn":
        return Tcn(n_inputs, width)  # its dropout is its own: .1 (Jung et al., 2026)
    return TemporalTransformer(n_inputs, width, n_heads, N_LAYERS, dropout, positions, N_ROWS_MAX)


class StreamFusion(nn.Module):
    """One stream of two: attention across them, a gate between them, or side by side.

    `asks` says which stream looks for what it needs in the other (Jung et al., 2026: the image).
    With `both` asking and no gate the two answers stand side by side. The gate weighs the image
    against `gate_partner`: the audio, or the image itself as it was before it asked (the released
    code of the paper). Where the audio has other rows than the image, each row of the image is
    given the audio row nearest to it in time.

    Shapes: image (B, T, W), audio (B, S, W) -> (B, T, W); (B, S, W) where only the audio asks
    and there is no gate.
    """

    def __init__(
        self,
        name: FusionName,
        width: int,
        *,
        asks: Literal["image", "audio", "both"],
        gate_partner: Modality,
        n_heads: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.gate_partner = gate_partner
        self.attention = self.audio_attention = self.gate = self.merge = None
        if name in ("attention", "attention_gate"):
            if asks != "audio":
                self.attention = CrossModalAttention(width, n_heads)
            if asks != "image":
                self.audio_attention = CrossModalAttention(width, n_heads)
        if name in ("gate", "attention_gate"):
            self.gate = GatedFusion(width, dropout)
        elif name == "concatenation" or (name == "attention" and asks == "both"):
            self.merge = Concatenation(width, dropout)

    def forward(
        self,
        image: Float[Tensor, "B T W"],
        audio: Float[Tensor, "B S W"],
        image_valid: Bool[Tensor, "B T"],
        audio_valid: Bool[Tensor, "B S"],
    ) -> Float[Tensor, "B R W"]:
        """The fused stream."""
        asked_image, asked_audio = image, audio
        if self.attention:
            asked_image = self.attention(image, audio, audio_valid)
        if self.audio_attention:
            asked_audio = self.audio_attention(audio, image, image_valid)
        if not self.gate and not self.merge:
            return asked_image if self.attention else asked_audio
        near = _nearest(audio.shape[1], image.shape[1], image.device)
        heard, heard_valid = asked_audio[:, near], audio_valid[:, near]  # (B, T, W), (B, T)
        if self.merge:
            return self.merge(asked_image, heard, image_valid, heard_valid)
        assert self.gate
        if self.gate_partner == "image":
            return self.gate(asked_image, image, image_valid, image_valid)
        return self.gate(asked_image, heard, image_valid, heard_valid)

    def known(
        self, image_valid: Bool[Tensor, "B T"], audio_valid: Bool[Tensor, "B S"]
    ) -> Bool[Tensor, "B R"]:
        """Which rows of the fused stream stand on something.

        A gate or merge gives a row without a face the sound; attention alone only asks it.
        """
        if not self.gate and not self.merge:
            if image_valid.shape[1] == audio_valid.shape[1]:
                return image_valid | audio_valid
            return image_valid if self.attention else audio_valid
        near = _nearest(audio_valid.shape[1], image_valid.shape[1], image_valid.device)
        if self.gate and self.gate_partner == "image" and len(near) != audio_valid.shape[1]:
            return image_valid
        return image_valid | audio_valid[:, near]


def _nearest(n_audio: int, n_image: int, device: torch.device) -> Tensor:
    """For each of the image's even steps, the audio's step that lies nearest before the end."""
    back = torch.arange(n_image - 1, -1, -1, device=device) * n_audio / n_image
    return n_audio - 1 - back.round().long()  # (T,)
