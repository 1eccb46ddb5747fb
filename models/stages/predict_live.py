"""The stage behind `predict --live`: valence and arousal of a stream while it is recorded."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from features.encoders import AnyEncoderConfig
from features.encoders.ast import AstConfig, AstEncoder
from features.encoders.clip import ClipConfig, ClipEncoder
from features.errors import InputError
from features.extraction.options import FramesOf
from features.extraction.runtime import Runtime
from features.media.limits import DEFAULT_LIMITS, DecodeLimits
from features.media.live.reader import LiveReader
from features.media.live.source import LiveSource
from features.system.devices import DeviceName
from models.prediction.encoders import encoders_of
from models.prediction.extract import with_frames
from models.prediction.live import LivePredictor, LiveRow
from models.prediction.live_estimate import LiveEstimator, check_causal, hears
from models.prediction.live_people import LiveFaces, WholeFrames
from models.prediction.live_sound import LiveSound
from models.prediction.people import MaxPeople
from models.runs.predictor import TrainedModel, open_model

SUMMARY_S = 10.0  # between summaries
MAX_DELAYS = 100_000  # frames whose delays are kept: an hour at 30 fps


@dataclass(slots=True)
class LiveSummary:
    """How a stream has gone so far."""

    frames_in: int = 0
    frames_predicted: int = 0
    """Frames whose rows were given, with a person or without."""
    frames_dropped: int = 0
    packets_damaged: int = 0
    frames_valid: int = 0
    """Frames with a picture of somebody."""
    windows_dropped: int = 0
    """Windows of the sound that were left out."""
    clock_jumps: int = 0
    seconds: float = 0.0
    """From the first frame to the last row."""
    delays_s: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_DELAYS))
    """From the decoding of a frame to its rows."""

    _began_at_s: float = 0.0

    def begin(self) -> float:
        """Begin to count the seconds; returns the time on the clock `time.monotonic`."""
        self._began_at_s = time.monotonic()
        return self._began_at_s

    def count(self, rows: Sequence[LiveRow], now_s: float) -> None:
        """Count rows, in the order of their frames, that are given at a time."""
        decoded_at_s = {row.frame: row.decoded_at_s for row in rows}
        self.frames_predicted += len(decoded_at_s)
        self.frames_valid += len({row.frame for row in rows if row.valid})
        self.delays_s.extend(now_s - at_s for at_s in decoded_at_s.values())
        if rows:
            self.seconds = now_s - self._began_at_s

    def as_json(self) -> dict[str, float | int | None]:
        """Return the numbers by name; delays as median and 95th percentile."""
        delays_s = (
            np.percentile(self.delays_s, (50, 95)).tolist() if self.delays_s else (None, None)
        )
        return {
            "frames_in": self.frames_in,
            "frames_predicted": self.frames_predicted,
            "frames_dropped": self.frames_dropped,
            "packets_damaged": self.packets_damaged,
            "frames_valid": self.frames_valid,
            "windows_dropped": self.windows_dropped,
            "clock_jumps": self.clock_jumps,
            "frames_per_second": self.frames_predicted / self.seconds if self.seconds else None,
            "delay_median_s": delays_s[0],
            "delay_95_s": delays_s[1],
        }


def predict_live(
    run: Path,
    source: LiveSource,
    *,
    on_rows: Callable[[Sequence[LiveRow], float], None],
    on_note: Callable[[str], None],
    on_summary: Callable[[LiveSummary], None],
    encoders: tuple[AnyEncoderConfig, ...] = (),
    frames: FramesOf = "faces",
    people: MaxPeople = "all",
    device: DeviceName = "auto",
    limits: DecodeLimits = DEFAULT_LIMITS,
    drop: bool | None = None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> LiveSummary:
    """Predict the frames of a stream as they come, until it ends or `is_stopped`.

    `on_rows` gets the rows of some frames and the time on the clock `time.monotonic`. With `drop`,
    by default for all sources but complete files, frames are dropped if they come faster than they
    are predicted. `on_summary` is called every ten seconds and at the end. Raises `InputError` if
    the model is not causal, `SpecMismatch` or `WeightsError` if its encoders are not at hand, and,
    once everything that was decoded is predicted, `MediaError` if the stream broke off.
    """
    model = open_model(run)
    check_causal(model)
    visual, audio = _encoders(model, encoders, frames)
    drop = source.is_paced if drop is None else drop
    summary = LiveSummary()
    with closing(Runtime(device)) as runtime:
        estimator = LiveEstimator(model, runtime.device)
        picture_encoder, sound = runtime.encoder(visual), None
        assert isinstance(picture_encoder, ClipEncoder)
        picture_encoder.encode(picture_encoder.blank(1))  # the first pass takes longer
        if audio and hears(model):
            sound_encoder = runtime.encoder(audio)
            assert isinstance(sound_encoder, AstEncoder)
            sound_encoder.encode(sound_encoder.blank(1))
            sound = LiveSound(sound_encoder, drop=drop)
        finder = LiveFaces(visual.faces, people) if visual.faces else WholeFrames()
        rate_hz = sound.rate_hz if sound else None
        reader = LiveReader(source, rate_hz, limits, drop=drop, is_stopped=is_stopped)
        predictor, shown_s = None, time.monotonic()
        for items in reader.items():
            if predictor is None:
                on_note(_note(sound, has_sound=reader.has_sound))
                sound = sound if reader.has_sound else None
                predictor = LivePredictor(
                    finder, picture_encoder, sound, estimator, model.meta.streams
                )
                shown_s = summary.begin()
            _give(list(predictor.add(items)), reader, sound, summary, on_rows)
            if time.monotonic() - shown_s >= SUMMARY_S:
                on_summary(summary)
                shown_s = time.monotonic()
        if predictor:
            _give(list(predictor.finish()), reader, sound, summary, on_rows)
        on_summary(summary)
    if reader.error:
        raise reader.error
    return summary


def _encoders(
    model: TrainedModel, given: tuple[AnyEncoderConfig, ...], frames: FramesOf
) -> tuple[ClipConfig, AstConfig | None]:
    """Return the encoder of pictures and that of sound; None if the model has no set of sound."""
    configs = with_frames(encoders_of(model, given), frames)
    visual = next((config for config in configs if isinstance(config, ClipConfig)), None)
    audio = next((config for config in configs if isinstance(config, AstConfig)), None)
    if visual is None or len(configs) > (1 if audio is None else 2):
        raise InputError(
            f"{model.run} reads the features {', '.join(model.meta.feature_sets.values())}, and a "
            "live prediction those of one clip encoder, and of one ast encoder at most; train a "
            "head with streams={visual: clip-..., audio: ast-...}"
        )
    if not visual.sampling.is_every_frame:
        raise InputError(
            f"{model.run} was trained on sampled frames (sampling = {visual.sampling.as_spec()}), "
            "between which values are interpolated; a live stream has no next sample: train on "
            "features of every frame"
        )
    return visual, audio


def _note(sound: LiveSound | None, *, has_sound: bool) -> str:
    """Say whether sound is read, and how long a frame waits for it."""
    if sound is None:
        return "the model reads no sound: frames wait for nothing"
    if not has_sound:
        return "the stream has no sound: its rows are predicted from the pictures alone"
    return (
        f"a frame waits up to {sound.delay_s:.2f} s for the sound around it, the first ones "
        f"{sound.window_s:.2f} s"
    )


def _give(
    rows: Sequence[LiveRow],
    reader: LiveReader,
    sound: LiveSound | None,
    summary: LiveSummary,
    on_rows: Callable[[Sequence[LiveRow], float], None],
) -> None:
    """Count the rows, and give them away."""
    now_s = time.monotonic()
    summary.count(rows, now_s)
    summary.frames_in, summary.frames_dropped = reader.n_frames, reader.n_dropped
    summary.packets_damaged, summary.clock_jumps = reader.n_damaged, reader.n_jumps
    summary.windows_dropped = sound.n_dropped if sound else 0
    if rows:
        on_rows(rows, now_s)
