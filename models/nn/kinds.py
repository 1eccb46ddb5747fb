"""Names by which a config chooses layers. Imports no torch, so that configs load fast."""

from typing import Literal

Modality = Literal["visual", "audio"]
Temporal = Literal["gru", "tcn", "tcn_released", "transformer"]
Positions = Literal["rotary", "learned"]
BimodalFusion = Literal["attention_gate", "attention", "gate", "concatenation"]
Fusion = Literal["attention_gate", "attention", "gate", "concatenation", "visual", "audio"]
AttentionInit = Literal["linear", "xavier"]
QueryModality = Literal["visual", "audio", "both"]
RegionLink = Literal["none", "probabilities", "barycentre"]
