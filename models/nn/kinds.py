"""Names by which a config chooses layers. Imports no torch, so that configs load fast."""

from typing import Literal

Modality = Literal["visual", "audio"]
Temporal = Literal["gru", "tcn", "transformer"]
Positions = Literal["rotary", "learned"]
BimodalFusion = Literal["attention_gate", "attention", "gate", "concatenation"]
Fusion = Literal["attention_gate", "attention", "gate", "concatenation", "visual", "audio"]
QueryModality = Literal["visual", "audio", "both"]
RegionLink = Literal["none", "probabilities", "barycentre"]
