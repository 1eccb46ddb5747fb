"""Rows of a live stream: people, features and predictions of each frame as they become known.

Everything is computed as for a file: the same pictures, embeddings, alignment and windows. A row
waits until the sound around it is known, and for nothing else.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float16, UInt8
from torch import Tensor

from features.clip import Track
from features.encoders.base import to_stored
from features.encoders.clip import ClipEncoder
from features.media.live.reader import LiveFrame, LiveItem, LiveSamples
from models.data.alignment import AlignedClip
from models.data.batch import Modality
from models.data.packed import PackedFeatures
from models.data.packed_file import pack_in_memory
from models.data.windows import SPAN_S
from models.prediction.live_estimate import LiveEstimator
from models.prediction.live_people import Box, LiveFaces, WholeFrames
from models.prediction.live_sound import LiveSound
from models.prediction.rows import region_words
from models.prediction.tables import BOX_DECIMALS, DECIMALS, OTHER_DECIMALS
from models.runs.checkpoint import StreamMeta

MAX_ROWS = 4096  # of ten seconds: 400 frames a second
ROWS_AT_ONCE = 256  # predicted in one pass of the head
DELAY_DECIMALS = 3

Embedding = Float16[np.ndarray, "_"]


@dataclass(frozen=True, slots=True)
class LiveRow:
    """What is predicted of one person in one frame."""

    frame: int
    time_s: float
    person: int | None
    """Counted from 1 in the order of appearance; None if nobody is in the frame."""
    box: Box | None
    valid: bool
    """Whether the person is seen; other rows repeat valence and arousal of the last one that is."""
    va: tuple[float, float] | None
    region: str | None
    region_probability: float | None
    spread: tuple[float, float] | None
    """Of an ensemble's members."""
    decoded_at_s: float
    """When the frame was decoded, on the clock `time.monotonic`."""

    def as_json(self, delay_s: float) -> dict[str, object]:
        """Return the fields as JSON values, with the delay from decoding to now."""
        valence, arousal = self.va or (None, None)
        fields: dict[str, object] = {
            "frame": self.frame,
            "time_s": round(self.time_s, DECIMALS["time_s"]),
            "person": self.person,
            "box": self.box and [round(side, BOX_DECIMALS) for side in self.box],
            "valid": self.valid,
            "valence": _rounded(valence, OTHER_DECIMALS),
            "arousal": _rounded(arousal, OTHER_DECIMALS),
            "region": self.region,
            "region_probability": _rounded(self.region_probability, DECIMALS["region_probability"]),
        }
        if self.spread:
            fields["valence_spread"], fields["arousal_spread"] = (
                round(each, OTHER_DECIMALS) for each in self.spread
            )
        return fields | {"delay_s": round(delay_s, DELAY_DECIMALS)}


def _rounded(value: float | None, decimals: int) -> float | None:
    return None if value is None else round(value, decimals)


@dataclass(frozen=True, slots=True)
class _Pending:
    """A frame whose pictures are encoded and gone; its sound may not be known yet."""

    number: int
    time_s: float
    decoded_at_s: float
    boxes: Mapping[int, Box | None]
    """Of everybody who is in the frame or missed."""
    visual: Mapping[int, Embedding]
    """Of the people who are seen."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A frame of the last ten seconds."""

    time_s: float
    audio: Embedding
    audio_valid: bool
    visual: Mapping[int, Embedding]


class LivePredictor:
    """Predicts the frames of one stream.

    It keeps the rows of the last ten seconds, and the frames that wait for their sound: memory does
    not grow with the stream. `sound` is None if the model does not read it or there is none.
    """

    def __init__(
        self,
        people: WholeFrames | LiveFaces,
        encoder: ClipEncoder,
        sound: LiveSound | None,
        estimator: LiveEstimator,
        streams: Mapping[str, StreamMeta],
    ) -> None:
        self._people, self._encoder, self._sound = people, encoder, sound
        self._estimator, self._streams = estimator, streams
        widths = (each.width for each in streams.values() if each.modality == "audio")
        self._audio_width = next(widths, 0)
        self._words = region_words(estimator.grid)
        self._pending: deque[_Pending] = deque()
        self._rows: deque[_Row] = deque(maxlen=MAX_ROWS)
        self._held: dict[int, tuple[float, float]] = {}

    def add(self, items: Sequence[LiveItem]) -> Iterator[LiveRow]:
        """Yield the rows that are known with the next frames and samples, in the order of frames.

        Raises `MediaError` if an encoder gives values that are not finite.
        """
        self._look([item for item in items if isinstance(item, LiveFrame)])
        samples = [item for item in items if isinstance(item, LiveSamples)]
        if self._sound and samples:
            self._sound.add(samples[0].start_s, [item.samples for item in samples])
        known = self._known()
        for start in range(0, len(known), ROWS_AT_ONCE):
            yield from self._predict(known[start : start + ROWS_AT_ONCE])

    def finish(self) -> Iterator[LiveRow]:
        """Yield the rows of the frames that are left: the stream has ended."""
        if self._sound:
            self._sound.finish()
        known = self._known()
        for start in range(0, len(known), ROWS_AT_ONCE):
            yield from self._predict(known[start : start + ROWS_AT_ONCE])

    def _look(self, frames: Sequence[LiveFrame]) -> None:
        """Find the people in frames, and encode their pictures together."""
        looks = [self._people.look(frame.image) for frame in frames]
        pictures = [seen.picture for look in looks for seen in look.values()]
        shown = [picture for picture in pictures if picture is not None]
        embeddings = iter(self._encoded(self._encoder.preprocess(shown)) if shown else ())
        for frame, look in zip(frames, looks, strict=True):
            visual = {
                person: next(embeddings)
                for person, seen in look.items()
                if seen.picture is not None
            }
            boxes = {person: seen.box for person, seen in look.items()}
            at = frame.number, frame.time_s, frame.decoded_at_s
            self._pending.append(_Pending(*at, boxes, visual))

    def _encoded(self, images: UInt8[Tensor, "N 3 H W"]) -> Iterator[Embedding]:
        size = self._encoder.gpu_batch
        if self._encoder.device.type == "cpu":
            size = self._encoder.cpu_batch
        for batch in images.split(size):
            yield from to_stored(self._encoder.encode(batch).float().cpu())

    def _known(self) -> list[_Pending]:
        """Take the frames whose sound is known, or does not come in time."""
        if self._sound is None or not self._pending:
            known = list(self._pending)
        else:
            until_s = max(
                self._sound.known_until_s,
                self._pending[-1].time_s - self._sound.max_wait_s,
            )
            known = [each for each in self._pending if each.time_s <= until_s]
        for _ in known:
            self._pending.popleft()
        return known

    def _predict(self, known: Sequence[_Pending]) -> Iterator[LiveRow]:
        time_s = np.array([each.time_s for each in known])
        audio = self._sound.at(time_s) if self._sound else self._silence(time_s)
        for index, each in enumerate(known):
            self._rows.append(
                _Row(each.time_s, audio.values[index], bool(audio.valid[index]), each.visual)
            )
        first = len(self._rows) - len(known)  # of the new rows
        seen: dict[int, list[int]] = {}
        for index, each in enumerate(known):
            for person in each.visual:
                seen.setdefault(person, []).append(index)
        predicted: dict[tuple[int, int], LiveRow] = {}
        for person, indices in seen.items():
            rows = self._predict_person(person, [known[index] for index in indices], first, indices)
            predicted |= {(index, person): row for index, row in zip(indices, rows, strict=True)}
        for index, each in enumerate(known):
            for person in each.boxes:
                yield self._row(each, person, predicted.get((index, person)))
            if not each.boxes:
                yield _without_values(each, None, None)
            self._held = {
                person: self._held[person] for person in each.boxes if person in self._held
            }
        while len(self._rows) > 1 and self._rows[1].time_s <= time_s[-1] - SPAN_S:
            self._rows.popleft()

    def _silence(self, time_s: np.ndarray) -> Track:
        n_rows = len(time_s)
        values = np.zeros((n_rows, self._audio_width), np.float16)
        return Track(values, time_s, np.zeros(n_rows, bool))

    def _predict_person(
        self, person: int, frames: Sequence[_Pending], first: int, indices: Sequence[int]
    ) -> Iterator[LiveRow]:
        targets = first + np.array(indices)
        estimate = self._estimator.estimate(self._packed(person), targets)
        for k, each in enumerate(frames):
            region = probability = None
            if estimate.regions is not None and estimate.regions.valid[k]:
                best = int(estimate.regions.posterior[k].argmax())
                region, probability = self._words[best], float(estimate.regions.posterior[k, best])
            spread = None if estimate.spread is None else tuple(estimate.spread[k].tolist())
            yield LiveRow(
                each.number,
                each.time_s,
                person,
                each.boxes[person],
                True,
                tuple(estimate.va[k].tolist()),
                region,
                probability,
                spread,
                each.decoded_at_s,
            )

    def _packed(self, person: int) -> PackedFeatures:
        """Return the last ten seconds of one person; rows without the person are not valid."""
        n_rows, blank = len(self._rows), np.zeros(self._encoder.width, np.float16)
        arrays = {
            "time_s": np.array([row.time_s for row in self._rows]),
            "va": np.zeros((n_rows, 2)),
            "va_valid": np.zeros(n_rows, bool),
        }
        for name, stream in self._streams.items():
            if stream.modality == "visual":
                values = [row.visual.get(person, blank) for row in self._rows]
                valid = [person in row.visual for row in self._rows]
            else:
                values = [row.audio for row in self._rows]
                valid = [row.audio_valid for row in self._rows]
            arrays |= {name: np.stack(values), f"{name}_valid": np.array(valid)}
        modalities: dict[str, Modality] = {
            name: stream.modality for name, stream in self._streams.items()
        }
        return pack_in_memory([AlignedClip("live", n_rows, n_rows, arrays)], modalities)

    def _row(self, each: _Pending, person: int, predicted: LiveRow | None) -> LiveRow:
        if predicted is None:
            return _without_values(each, person, self._held.get(person))
        if predicted.va:
            self._held[person] = predicted.va
        return predicted


def _without_values(each: _Pending, person: int | None, va: tuple[float, float] | None) -> LiveRow:
    return LiveRow(
        each.number, each.time_s, person, None, False, va, None, None, None, each.decoded_at_s
    )
