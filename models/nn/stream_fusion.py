"""The fusion of the visual and the audio stream that a config names."""

from typing import assert_never

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from models.nn.fusion import Concatenation, CrossModalAttention, GatedFusion
from models.nn.kinds import BimodalFusion, Modality, QueryModality


class StreamFusion(nn.Module):
    """Cross-modal attention, a gate or a concatenation, or attention and then a gate.

    `query_modality` is the stream that attends to the other one (Jung et al., 2026: the visual
    one). With `both` and no gate, the two results are concatenated. The gate weighs the visual
    stream against `gate_partner`: the audio stream, or the visual stream before the attention (the
    released code of the paper). If the streams have different numbers of rows, the gate and the
    concatenation pair each visual row with the audio row nearest in time.

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
    ) -> None:
        super().__init__()
        self.gate_partner: Modality = gate_partner
        self.attention = self.audio_attention = self.gate = self.merge = None
        match kind:
            case "attention_gate":
                self._add_attention(query_modality, width, n_heads)
                self.gate = GatedFusion(width, dropout)
            case "attention":
                self._add_attention(query_modality, width, n_heads)
                if query_modality == "both":
                    self.merge = Concatenation(width, dropout)
            case "gate":
                self.gate = GatedFusion(width, dropout)
            case "concatenation":
                self.merge = Concatenation(width, dropout)
            case _:
                assert_never(kind)

    def _add_attention(self, query_modality: QueryModality, width: int, n_heads: int) -> None:
        match query_modality:
            case "visual":
                self.attention = CrossModalAttention(width, n_heads)
            case "audio":
                self.audio_attention = CrossModalAttention(width, n_heads)
            case "both":
                self.attention = CrossModalAttention(width, n_heads)
                self.audio_attention = CrossModalAttention(width, n_heads)
            case _:
                assert_never(query_modality)

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
