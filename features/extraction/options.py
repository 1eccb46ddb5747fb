"""The options of an extraction."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from features.clip import ClipId
from features.encoders import AnyEncoderConfig
from features.encoders.faces import FacesConfig
from features.errors import InputError
from features.media.limits import DEFAULT_LIMITS, DecodeLimits
from features.system.devices import DeviceName
from features.system.parallel import n_cores

AnySetConfig = AnyEncoderConfig | FacesConfig
"""What a feature set is made with: an encoder, or a search for faces that encoders build on."""
FramesOf = Literal["faces", "whole"]
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, slots=True)
class ExtractionOptions:
    """Which features are extracted into which store, and how: the keys of `extract-features`.

    Raises `InputError` if `batch_size` or `readers` is below 1.
    """

    store: str
    """A folder, or s3://bucket/prefix."""
    encoders: tuple[AnySetConfig, ...]
    device: DeviceName = "auto"
    batch_size: int | None = None
    """Items per batch; None chooses by encoder and device."""
    readers: int | None = None
    """Clips decoded at once; None takes one for each two cores."""
    limits: DecodeLimits = DEFAULT_LIMITS
    only: tuple[ClipId, ...] = ()
    """The clips to extract; all of the manifest if empty."""
    failed: bool = False
    """Extract only clips that are in quarantine for one of the encoders."""
    force: bool = False
    """Extract complete and quarantined clips again."""
    frames: FramesOf = "whole"
    """What is encoded of a video without crops: its faces, or whole frames. An encoder whose config
    has faces keeps them. The stage `extract-features` gives "faces" by default."""
    crops: Path | None = None
    """A folder to write the faces to that are encoded, as `<clip id>/00001.jpg`, ...; null writes
    none."""

    @property
    def n_readers(self) -> int:
        """How many clips are decoded at once, if there are as many."""
        return self.readers or max(2, n_cores() // 2)

    def __post_init__(self) -> None:
        """Check the counts."""
        for name, count in (("batch_size", self.batch_size), ("readers", self.readers)):
            if count is not None and count < 1:
                raise InputError(f"{name}={count} is below 1; give a positive number or null")
