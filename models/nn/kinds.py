"""Names by which a config chooses layers. Imports no torch, so that configs load fast."""

from typing import Literal

Temporal = Literal["gru", "tcn", "tcn_released", "transformer"]
Positions = Literal["rotary", "learned"]
FusionKind = Literal["attention_gate", "attention", "gate", "concatenation"]
GatePartner = Literal["others", "first"]
AttentionInit = Literal["linear", "xavier"]
RegionLink = Literal["none", "probabilities", "barycentre"]
