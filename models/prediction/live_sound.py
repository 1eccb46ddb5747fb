"""The embeddings of the sound of a live stream at the times of its frames."""

import numpy as np
import torch
from jaxtyping import Float32, Float64
from torch import Tensor

from features.clip import Track
from features.encoders.ast import AstEncoder
from features.encoders.ast_windows import FBANK_HOP_S, WindowStream
from features.encoders.base import to_stored
from models.data.alignment import interpolate_track

FRAMES_AT_ONCE = 10  # of the spectrogram: a tenth of a second
KEPT_S = 2.0  # of steps before the next frame, for the typical step between them
MAX_LATE_S = 3.0  # beyond the windows that a frame waits for; then it does without sound
MAX_APART_S = 60.0  # likewise, of the tracks of a file: writers put sound far behind its frames
MAX_WINDOWS = 2  # that wait to be encoded, if windows may be dropped


class LiveSound:
    """Encodes sound window by window, and gives the same rows as the record of a file.

    A row is known once the window is complete that provides its steps. With `drop`, windows that
    cannot be encoded in time are left out, and their rows are not valid.
    """

    def __init__(self, encoder: AstEncoder, *, drop: bool) -> None:
        self._encoder, self._drop = encoder, drop
        self._windows = WindowStream(encoder.windows, FRAMES_AT_ONCE)
        self._start_s = 0.0
        self._n_samples = self._n_windows = 0
        self._last: Float32[Tensor, "S D"] | None = None
        """The output of the newest window; its later steps may be the last ones of all."""
        width = encoder.model.config.hidden_size
        self._steps = Track(np.zeros((0, width), np.float16), np.zeros(0), np.zeros(0, bool))
        self._has_ended = False
        self.n_dropped = 0

    @property
    def rate_hz(self) -> int:
        """The rate of the samples."""
        return self._encoder.extractor.sampling_rate

    @property
    def delay_s(self) -> float:
        """How long after a frame its sound is known at the latest, once a window has passed."""
        hop_s = self._encoder.windows.hop_frames * FBANK_HOP_S
        return hop_s if self._encoder.keep == "last" else (self.window_s + hop_s) / 2

    @property
    def window_s(self) -> float:
        """The length of a window: before the first is complete, no sound is known."""
        return self._encoder.windows.real_frames * FBANK_HOP_S

    @property
    def max_wait_s(self) -> float:
        """The time in the stream after which a frame does without its sound."""
        hop_s = self._encoder.windows.hop_frames * FBANK_HOP_S
        return self.window_s + hop_s + (MAX_LATE_S if self._drop else MAX_APART_S)

    @property
    def known_until_s(self) -> float:
        """The rows up to this time do not change any more; infinite once the sound has ended."""
        if self._has_ended:
            return np.inf
        return float(self._steps.time_s[-1]) if len(self._steps.time_s) else -np.inf

    def add(self, start_s: float, samples: list[Float32[np.ndarray, "_"]]) -> None:
        """Add the next blocks of samples; `start_s` is the time of the first sample of all."""
        self._start_s = start_s
        windows: list[Float32[Tensor, "T M"]] = []
        for block in samples:
            self._n_samples += len(block)
            windows += self._windows.add(block)
        n_late = max(0, len(windows) - MAX_WINDOWS) if self._drop else 0
        self.n_dropped += n_late
        for number, window in enumerate(windows):
            self._add_window(window, is_late=number < n_late)

    def finish(self) -> None:
        """Encode the last, incomplete window: the sound has ended."""
        for window in self._windows.finish():
            self._add_window(window, is_late=False, is_end=True)
            self._last = None
        if self._last is not None:  # which was complete, and is the last one all the same
            self._keep(self._last, self._n_windows - 1, is_end=True)
        self._has_ended = True

    def at(self, time_s: Float64[np.ndarray, "N"]) -> Track:
        """Return the rows at increasing times, and forget what no later row needs."""
        rows = interpolate_track(self._steps, time_s)
        first = int(np.searchsorted(self._steps.time_s, time_s[-1] - KEPT_S))
        steps = self._steps
        self._steps = Track(steps.values[first:], steps.time_s[first:], steps.valid[first:])
        return rows

    @torch.inference_mode()
    def _add_window(
        self, window: Float32[Tensor, "T M"], *, is_late: bool, is_end: bool = False
    ) -> None:
        width = self._steps.values.shape[1]
        blank = torch.full((self._encoder.n_steps, width), torch.nan)
        output = blank if is_late else self._encoder.encode(window[None])[0].float().cpu()
        self._n_windows += 1
        self._keep(output, self._n_windows - 1, is_end=is_end)
        self._last = output

    def _keep(self, output: Float32[Tensor, "S D"], window: int, *, is_end: bool) -> None:
        """Append the steps of a window that are its own, and later than those before."""
        first_frame = np.array([window * self._encoder.windows.hop_frames])
        [own] = self._encoder.own_steps(first_frame, is_end=is_end)
        centre_s = first_frame * FBANK_HOP_S + self._encoder.centre_s
        if is_end:
            inside = centre_s < self._n_samples / self._encoder.extractor.sampling_rate
            inside[0] |= window == 0  # sound that ends ahead of the first centre has one row
            own &= inside
        time_s = self._start_s + centre_s
        own &= time_s > self.known_until_s
        values, valid = output[torch.from_numpy(own)], ~output[torch.from_numpy(own)].isnan().any(1)
        added = to_stored(torch.where(valid[:, None], values, 0))
        steps = self._steps
        self._steps = Track(
            np.concatenate([steps.values, added]),
            np.concatenate([steps.time_s, time_s[own]]),
            np.concatenate([steps.valid, valid.numpy()]),
        )
