"""Everything that decides the numbers of a feature set; its digest names the set in the store."""

import hashlib
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from features.canonical_json import JsonObject, canonical

Modality = Literal["visual", "audio"]

MODALITY: dict[str, Modality] = {"clip": "visual", "ast": "audio"}


DIGEST_LENGTH = 12  # hexadecimal digits in a name: 48 bits, plenty for the sets of one store


class FeatureSpec(BaseModel):
    """What an encoder does to a clip. Device, batch size and paths are provenance, not spec."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str = Field(pattern=r"^[a-z][a-z0-9]*$")
    """The encoder's kind: `clip`, `ast`."""
    model: JsonObject
    """Architecture: name, sizes, activation."""
    weights_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Digest of the file of weights."""
    preprocessing: JsonObject
    """From the decoded picture or sound to the encoder's input."""
    sampling: JsonObject
    """Which rows there are, and when each was seen."""
    precision: Literal["float32", "bfloat16", "float16"]
    """What the encoder computes in."""
    stored: Literal["float16"] = "float16"
    """What the store keeps."""
    epoch: int = 1
    """Raised when the code comes to give other numbers for the same fields."""

    @property
    def digest(self) -> str:
        """sha256 of the canonical JSON, in hexadecimal."""
        return hashlib.sha256(canonical(self.model_dump(mode="json"))).hexdigest()

    @property
    def name(self) -> str:
        """The feature set's folder in a store: `<kind>-<first digits of the digest>`."""
        return f"{self.kind}-{self.digest[:DIGEST_LENGTH]}"
