"""The sound of a file, on the clock of its pictures."""

from dataclasses import dataclass
from pathlib import Path

import av
import av.error
import numpy as np
from jaxtyping import Float32

from features.containers import opened, sound_stream
from features.errors import MediaError
from features.limits import GENEROUS, DecodeLimits, check_time
from features.media import WHOLE

GAP_S = 0.05  # sound that jumps by more is placed anew; below it, jitter of timestamps
GUESSED = ("aac", "mp3")  # bare streams: their length is a guess by bit rate, and no promise


@dataclass(frozen=True, slots=True)
class Sound:
    """Mono sound on the video's clock."""

    samples: Float32[np.ndarray, "S"]
    start_s: float
    """Presentation time of the first sample."""


def read_sound(path: Path, rate_hz: int, limits: DecodeLimits = GENEROUS) -> Sound | None:
    """The first sound track, mono at `rate_hz`, on the container's clock; None if there is none.

    A track without a packet is none, where the file itself reaches its end.

    Gaps in the track are silence of the same length; where its timestamps go back it goes on, as
    the pictures do. Raises `MediaError` where less than 95 % of
    the promised length is there, or more than 5 % of the packets are damaged.
    """
    runs: list[tuple[float, list[np.ndarray]]] = []
    n_packets, n_bytes, n_damaged, end_s = 0, 0, 0, 0.0
    with opened(path, limits) as container:
        stream = sound_stream(path, container)
        if stream is None:
            return None
        resampler = _resampler(rate_hz)
        expected_s, kind = None, None
        for packet in container.demux():
            if packet.pts is not None and packet.time_base is not None:
                end_s = max(end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream is not stream:
                continue
            n_packets += 1
            n_bytes += packet.size
            try:
                frames = stream.decode(packet)
            except av.error.InvalidDataError:
                n_damaged += 1
                continue
            for frame in frames:
                time_s = frame.time if frame.time is not None else expected_s or 0.0
                before, kind = kind, (frame.format.name, frame.layout.name, frame.sample_rate)
                if expected_s is None or kind != before or time_s - expected_s > GAP_S:
                    if runs:  # broadcasts change from mono to stereo in the middle
                        runs[-1][1].extend(_samples(resampler, None))
                        resampler = _resampler(rate_hz)
                    runs.append((time_s, []))
                expected_s = time_s + frame.samples / frame.sample_rate
                check_time(path, expected_s, limits)
                frame.pts = None  # the resampler must not act on timestamps a second time
                runs[-1][1].extend(_samples(resampler, frame))
        if runs:
            runs[-1][1].extend(_samples(resampler, None))
        promises = container.format.name not in GUESSED
        own_s = float((stream.duration or 0) * (stream.time_base or 0)) * promises
        whole_s = (container.duration or 0) / av.time_base * promises
        is_listed_empty = not n_bytes and not stream.frames
    if is_listed_empty and end_s >= WHOLE * whole_s:
        return None  # a track without a packet, in a file that is whole
    sound = _on_one_clock(runs, rate_hz)
    if own_s:
        got_s, promised_s = len(sound.samples) / rate_hz, own_s
    else:  # no length of its own in the container: go by where the file ends
        got_s, promised_s = end_s, whole_s
    if got_s < WHOLE * promised_s or n_damaged > (1 - WHOLE) * n_packets:
        raise MediaError(
            f"{path}: {got_s:.2f} of the {promised_s:.2f} seconds of sound that the container "
            f"promises are there, {n_damaged} of {n_packets} packets damaged: the file is "
            "truncated or damaged; replace it",
            "incomplete",
        )
    return sound


def _resampler(rate_hz: int) -> av.AudioResampler:
    return av.AudioResampler(format="flt", layout="mono", rate=rate_hz)


def _samples(resampler: av.AudioResampler, frame: av.AudioFrame | None) -> list[np.ndarray]:
    return [out.to_ndarray()[0] for out in resampler.resample(frame)]


def _on_one_clock(runs: list[tuple[float, list[np.ndarray]]], rate_hz: int) -> Sound:
    """Runs of samples with the time each begins, joined: silence between, the later one on top."""
    if not runs:
        return Sound(np.zeros(0, np.float32), 0.0)
    start_s = min(time_s for time_s, _ in runs)
    placed = [
        (round((time_s - start_s) * rate_hz), np.concatenate([*parts, np.zeros(0, np.float32)]))
        for time_s, parts in runs
    ]
    samples = np.zeros(max(at + len(run) for at, run in placed), np.float32)
    for at, run in placed:
        samples[at : at + len(run)] = run
    return Sound(samples, start_s)
