"""What every encoder keeps, checked on a small video with sound; for our own and for plug-ins."""

from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np
import torch
from torch import Tensor

from features.clip import Source, Track
from features.encoders.base import Encoder
from features.errors import MediaError
from features.media.decoder import Decoder
from features.media.limits import DEFAULT_LIMITS
from features.plugins import Check, Rule, run_checks
from features.timeline import FrameTimes

SECONDS, FPS, RATE_HZ = 3, 10, 44_100
SIDE_PX = 96
TOLERANCE = 1e-3  # between batches, relative to the largest value: float16 is exact to 5e-4


def check_encoder(config: Any) -> tuple[Check, ...]:
    """Check an encoder against the contract on the CPU; the first broken rule is the last result.

    Raises what the encoder itself raises, such as `WeightsError` if its weights are not at hand.
    """
    with TemporaryDirectory() as folder, closing(Decoder(DEFAULT_LIMITS)) as decoder:
        return run_checks(_rules(_Subject(config, decoder, Path(folder))))


class _Subject:
    """The encoder, and what it makes of the clips."""

    def __init__(self, config: Any, decoder: Decoder, folder: Path) -> None:
        self.config, self.decoder = config, decoder
        self.clip = _source("clip", _write_media(folder / "clip.mp4", sound=True))
        self.other = _source("other", _write_media(folder / "other.mp4", sound=True, seed=1))
        self.mute = _source("mute", _write_media(folder / "mute.mp4", sound=False))
        self.encoder: Encoder[Any] = config.build(torch.device("cpu"))

    def read(self, source: Source) -> tuple[list[Tensor], Any]:
        *items, layout = self.encoder.read(source, self.decoder)
        return [item.clone() for item in items], layout

    def track(self, source: Source, piece: int = 64) -> tuple[Track, str | None]:
        """The track of a clip that is encoded `piece` items at a time."""
        items, layout = self.read(source)
        outputs = [self.encoder.encode(part) for part in torch.cat(items).split(piece)]
        return self.encoder.assemble((output.cpu() for output in outputs), layout)


def _rules(subject: _Subject) -> Iterator[Rule]:
    yield "the spec is of the kind, and the same each time", lambda: _spec(subject)
    yield "the precision is in the spec", lambda: _precision(subject)
    yield "the encoder has the members of features.encoders.base.Encoder", lambda: _members(subject)
    yield "`read` yields tensors of the shape of `blank`, then the layout", lambda: _items(subject)
    yield "`assemble` makes a track of the clip's rows", lambda: _track(subject)
    yield "batches of any size give the same rows", lambda: _batches(subject)
    yield "nothing is kept from clip to clip", lambda: _stateless(subject)
    yield "a clip without its media raises the right error", lambda: _no_media(subject)


def _spec(subject: _Subject) -> str | None:
    config = subject.config
    spec = config.spec()
    copy = type(config).model_validate(config.model_dump(mode="json"))
    if spec.kind != config.kind:
        return f"spec().kind is {spec.kind!r}, the config's {config.kind!r}"
    if copy.spec().digest != spec.digest:
        return "the same config, written as JSON and read again, has another spec"
    if subject.encoder.spec.digest != spec.digest:
        return "the spec of the encoder that `build` returns is not that of the config"
    return None


def _precision(subject: _Subject) -> str | None:
    config = subject.config
    names = {config.model_copy(update={"precision": p}).spec().name for p in ("float32", "float16")}
    return None if len(names) == 2 else "spec() is the same for float32 and float16"


def _members(subject: _Subject) -> str | None:
    if not isinstance(subject.encoder, Encoder):
        return "one of spec, modality, device, cpu_batch, gpu_batch, rate_hz, ... is missing"
    if subject.encoder.modality != subject.config.modality:
        return "the modality of the encoder is not that of its config"
    return None


def _items(subject: _Subject) -> str | None:
    items, layout = subject.read(subject.clip)
    if not items or not all(isinstance(item, Tensor) and len(item) for item in items):
        return "it must yield tensors (N, ...) with N of at least 1 ahead of the layout"
    if isinstance(layout, Tensor):
        return "the last item must be the layout, which is no tensor"
    blank = subject.encoder.blank(2)
    if {(item.shape[1:], item.dtype) for item in items} != {(blank.shape[1:], blank.dtype)}:
        return f"`blank` has {tuple(blank.shape)} {blank.dtype}, items {tuple(items[0].shape)}"
    n_outputs = len(subject.encoder.encode(items[0]))
    if n_outputs != len(items[0]):
        return f"`encode` returned {n_outputs} outputs for {len(items[0])} items"
    return None


def _track(subject: _Subject) -> str | None:
    track, _ = subject.track(subject.clip)
    if not track.valid.any() or not np.any(track.values):
        return "no row is valid, or all values are 0"
    if subject.config.modality == "visual":
        [*_, times] = subject.decoder.frames(subject.clip.video, None)  # pyright: ignore
        assert isinstance(times, FrameTimes)
        if not np.array_equal(track.time_s, times.time_s):
            return "a visual track needs one row per frame, at the frame's presentation time"
    elif track.time_s[0] < 0 or track.time_s[-1] > SECONDS + 0.1:
        return f"rows are from {track.time_s[0]:g} to {track.time_s[-1]:g} s of {SECONDS} s"
    return None


def _batches(subject: _Subject) -> str | None:
    whole, _ = subject.track(subject.clip)
    parts, _ = subject.track(subject.clip, piece=1)
    return None if _alike(whole, parts) else "rows differ between batches of 1 and of 64"


def _stateless(subject: _Subject) -> str | None:
    first, _ = subject.track(subject.clip)
    other, _ = subject.track(subject.other)
    again, _ = subject.track(subject.clip)
    if not _alike(first, again):
        return "a clip that is encoded again after another one has other rows"
    if _alike(first, other):
        return "two clips of other pictures and other sound have the same rows"
    return None


def _no_media(subject: _Subject) -> str | None:
    encoder = subject.encoder
    if subject.config.modality == "visual":
        try:
            list(encoder.read(_source("none", None), subject.decoder))
        except MediaError:
            return None
        return "`read` must raise MediaError for a clip without video and frames"
    items, layout = subject.read(subject.mute)
    track, note = encoder.assemble(iter(()), layout)
    width = subject.track(subject.clip)[0].values.shape[1]
    if items or track.values.shape != (0, width) or not note:
        return f"a clip without sound needs no items, a track of shape (0, {width}) and a note"
    return None


def _alike(a: Track, b: Track) -> bool:
    if not np.array_equal(a.time_s, b.time_s) or a.values.shape != b.values.shape:
        return False
    scale = float(np.abs(a.values).max(initial=1e-6))
    return bool(np.allclose(a.values, b.values, rtol=0, atol=TOLERANCE * scale))


def _source(clip_id: str, video: Path | None) -> Source:
    return Source(clip_id, video, None, None, None)


def _write_media(path: Path, *, sound: bool, seed: int = 0) -> Path:
    """Write moving colours as H.264 and, with sound, a chirp as AAC."""
    rng = np.random.default_rng(seed)
    tint, pitch_hz = rng.uniform(0.2, 1, 3), rng.uniform(150, 400)
    y, x = np.mgrid[0:SIDE_PX, 0:SIDE_PX] / SIDE_PX
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS)
        video.width = video.height = SIDE_PX
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=RATE_HZ, layout="mono") if sound else None
        for k in range(SECONDS * FPS):
            wave = 127 + 120 * np.sin(6 * x + 4 * y + 0.5 * k + 6 * seed)
            picture = (wave[..., None] * tint).astype(np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
        if audio is not None:
            t = np.arange(SECONDS * RATE_HZ) / RATE_HZ
            loud = 0.3 + 0.2 * np.sin(5 * t)
            samples = loud * np.sin(2 * np.pi * pitch_hz * t * (1 + 0.2 * t))
            samples += 0.01 * rng.standard_normal(len(t))
            block = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), "fltp", "mono")
            block.rate, block.pts, block.time_base = RATE_HZ, 0, Fraction(1, RATE_HZ)
            container.mux(audio.encode(block))
            container.mux(audio.encode(None))
    return path
