"""The spec of a feature set: everything that determines its numbers."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from features.canonical_json import JsonObject, canonical_sha256
from features.encoder_kinds import MODALITY as MODALITY
from features.encoder_kinds import Modality as Modality

FRAMES = "frames"  # the clock of imported rows that are the frames of the video
DIGEST_LENGTH = 12  # hexadecimal digits in a name: 48 bits, enough for the sets of one store


class FeatureSpec(BaseModel):
    """What determines the numbers of a feature set; device, batch size and paths are provenance."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str = Field(pattern=r"^[a-z][a-z0-9]*$")
    """The kind of the encoder: `clip`, `ast`; or `faces`, where they are in each frame."""
    model: JsonObject
    """Architecture: name, sizes, activation."""
    weights_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """sha256 of the file of weights; of what made the features, if they are `imported`."""
    preprocessing: JsonObject
    """How decoded frames or audio are turned into the encoder's input."""
    sampling: JsonObject
    """Which rows a track has, and their times."""
    precision: Literal["float32", "bfloat16", "float16"]
    """The type in which the encoder computes."""
    stored: Literal["float16", "float32"] = "float16"
    """The type of the stored values."""
    epoch: int = 1
    """Raised when a change of the code changes the numbers of a spec with the same other fields."""

    @property
    def imported(self) -> Modality | None:
        """The modality of features that were made elsewhere; None if an encoder made them."""
        given = self.model.get("imported")
        return given if given in ("visual", "audio") else None

    @property
    def modality(self) -> Modality | None:
        """What the features are of; None if this vaflow does not know the kind."""
        return self.imported or MODALITY.get(self.kind)

    @property
    def has_frame_rows(self) -> bool:
        """Whether each row is a frame of the video, so that labels can be counted by them."""
        return self.modality == "visual" and self.sampling.get("clock", FRAMES) == FRAMES

    @cached_property
    def digest(self) -> str:
        """sha256 of the canonical JSON, in hexadecimal."""
        return canonical_sha256(self.model_dump(mode="json"))

    @cached_property
    def name(self) -> str:
        """The name of the feature set in a store: `<kind>-<first digits of the digest>`."""
        return f"{self.kind}-{self.digest[:DIGEST_LENGTH]}"

    def model_copy(
        self, *, update: Mapping[str, Any] | None = None, deep: bool = False
    ) -> "FeatureSpec":
        """Return a copy as pydantic does, without the cached digest of the original."""
        copy = super().model_copy(update=update, deep=deep)
        for cached in ("digest", "name"):
            vars(copy).pop(cached, None)
        return copy
