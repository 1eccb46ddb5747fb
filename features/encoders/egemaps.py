"""The low-level descriptors of eGeMAPS (Eyben et al., 2016), by openSMILE: a hundred a second.

openSMILE is an extra with a licence of its own (docs/encoders.md), and imported on first use.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float32
from pydantic import Field
from torch import Tensor

from features.encoders.step_encoder import StepEncoder, WindowConfig
from features.encoders.step_windows import StepWindows
from features.encoders.weights import NO_WEIGHTS
from features.errors import InputError
from features.spec import FeatureSpec

RATE_HZ = 16_000
STEP = 160  # samples from one row to the next: 10 ms
RECEPTIVE = 960  # samples that a row is made of: the 60 ms of its frame for the pitch
FRAME = 320  # samples of the 20 ms that openSMILE gives as the span of a row
WIDTH = 25
FEATURE_SET, LEVEL = "eGeMAPSv02", "LowLevelDescriptors"
EPOCH = 1  # of the code below, see FeatureSpec.epoch


class EgemapsConfig(WindowConfig):
    """Loudness, spectrum, pitch and formants of a voice, 25 numbers a row."""

    kind: Literal["egemaps"] = "egemaps"
    window_s: float = Field(default=60.0, ge=1, le=600)
    """Seconds that openSMILE reads at once; longer sound is cut into windows."""
    hop_s: float = Field(default=30.0, gt=0)
    """From one window's start to the next: at most a window. Each row is taken from the window in
    which it has most context."""

    def spec(self) -> FeatureSpec:
        """Everything that determines the values; `InputError` if openSMILE is not installed."""
        windows = self.windows()
        return FeatureSpec(
            kind=self.kind,
            model={"name": f"{FEATURE_SET} {LEVEL}", "opensmile": _opensmile_version()},
            weights_sha256=NO_WEIGHTS,
            preprocessing={"rate_hz": RATE_HZ},
            sampling={"window_steps": windows.n_steps, "hop_steps": windows.hop, "keep": "centre"},
            precision=self.precision,
            epoch=EPOCH,
        )

    def windows(self) -> StepWindows:
        """The windows, on openSMILE's clock."""
        return self.step_windows(RECEPTIVE, STEP, RATE_HZ)

    def build(self, device: torch.device) -> "EgemapsEncoder":
        """The encoder; openSMILE itself computes on the CPU."""
        return EgemapsEncoder(self, device)


def _opensmile_version() -> str:
    """The version of openSMILE, which has no weights that say what it computes."""
    try:
        return version("opensmile")
    except PackageNotFoundError:
        raise InputError(
            "encoders.egemaps needs openSMILE, which is not installed: `pip install -e "
            "'.[opensmile]'`. Its licence allows research and other non-commercial use only "
            "(docs/encoders.md)"
        ) from None


class EgemapsEncoder(StepEncoder):
    """openSMILE on windows of samples.

    A row without voice has openSMILE's own values for it: 0 for pitch, jitter, shimmer, harmonics
    and formants, -201 dB for the amplitude of formants.
    """

    def __init__(self, config: EgemapsConfig, device: torch.device) -> None:
        super().__init__(config.spec(), config.windows(), RATE_HZ, WIDTH, device)
        opensmile: Any = import_module("opensmile")
        self.smile = opensmile.Smile(
            feature_set=opensmile.FeatureSet[FEATURE_SET],
            feature_level=opensmile.FeatureLevel[LEVEL],
        )

    @property
    def centre(self) -> float:
        """The middle of the span that openSMILE gives for a row."""
        return FRAME / 2

    def prepared(self, samples: Float32[np.ndarray, "_"]) -> Float32[np.ndarray, "_"]:
        """The samples of a window as they are."""
        return samples

    def rows(self, samples: Float32[Tensor, "N S"]) -> Float[Tensor, "N T D"]:
        """The descriptors of each step of windows of one length.

        openSMILE gives one more, whose frame ends beyond the sound.
        """
        n_steps = self.windows.steps_of(samples.shape[1])
        found = [
            self.smile.process_signal(window, RATE_HZ).to_numpy() for window in samples.numpy()
        ]
        rows = torch.from_numpy(np.stack(found)[:, :n_steps])
        return rows.to(self.device, self.dtype)
