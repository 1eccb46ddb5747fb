"""Clips through encoders: read ahead of them, in batches that run on from clip to clip.

decode processes -> readers (threads) -> bounded queue of items -> batches across clips -> encoders
-> tracks
"""

import logging
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field

import torch
from torch import Tensor

from features.clip import Track
from features.encoders.base import Encoder
from features.errors import MediaCode, MediaError, VaflowError
from features.extraction.output_buffer import OutputBuffer
from features.extraction.prefetch import QUEUE_PIECES, EndOfClip, ReadItem, ReadTask, prefetch
from features.extraction.stage_times import StageTimer
from features.media.decoder import Decoder

log = logging.getLogger(__name__)


IN_FLIGHT = 1  # batches that a GPU works on while the next is made ready
LEAST_ON_CPU = 16  # items of a batch: fewer are multiplied in other ways, and differ in a last bit
# (`test_encoding.py::test_an_item_is_the_same_whatever_is_beside_it`)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Encoded:
    """One clip that came through, for one feature set."""

    index: int
    """Its place in the line."""
    feature_set: str
    track: Track
    note: str | None
    """What is odd about it."""


@dataclass(frozen=True, slots=True)
class Failed:
    """One clip that did not."""

    index: int
    feature_set: str
    why: str
    code: MediaCode


@dataclass(slots=True)
class _ClipInProgress:
    """A clip on its way through an encoder."""

    index: int
    outputs: OutputBuffer = field(default_factory=OutputBuffer)
    n_read: int = 0
    end: EndOfClip | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it is read to its end and all of it is encoded."""
        return self.end is not None and self.outputs.n_items == self.n_read


def encode_all(
    encoders: Mapping[str, Encoder],
    tasks: Iterable[ReadTask],
    *,
    batch_sizes: Mapping[str, int],
    decoders: Sequence[Decoder],
    meter: StageTimer | None = None,
) -> Generator[Encoded | Failed, None, None]:
    """Each clip and feature set as it is done, in whatever order.

    `encoders` and `batch_sizes` are by feature set. There are as many readers as decoders. Every
    batch of an encoder but its last is full.
    """
    meter = meter or StageTimer(QUEUE_PIECES)
    lines = {
        name: _EncoderQueue(name, encoder, batch_sizes[name], meter)
        for name, encoder in encoders.items()
    }
    with ExitStack() as stack:
        for line in lines.values():
            stack.enter_context(closing(line))
        with closing(prefetch(encoders, tasks, decoders, meter)) as pieces:
            for index, name, found in pieces:
                yield from lines[name].take(index, found)
        for line in lines.values():
            yield from line.rest()


class _EncoderQueue:
    """What waits for one encoder, what it works on, and what has come of it."""

    def __init__(self, name: str, encoder: Encoder, batch_size: int, meter: StageTimer) -> None:
        self.name, self.encoder, self.batch_size, self.meter = name, encoder, batch_size, meter
        self._open: dict[int, _ClipInProgress] = {}
        self._waiting: deque[tuple[_ClipInProgress, Tensor]] = deque()
        self._n_waiting = 0
        self._in_flight: deque[tuple[list[tuple[_ClipInProgress, Tensor]], _Output]] = deque()

    def take(self, index: int, found: ReadItem) -> Iterator[Encoded | Failed]:
        """What comes of what was read of a clip; batches that are full are encoded."""
        if index not in self._open:
            self._open[index] = _ClipInProgress(index)
        clip = self._open[index]
        if isinstance(found, Tensor):
            self._waiting.append((clip, found))
            self._n_waiting += len(found)
            clip.n_read += len(found)
            while self._n_waiting >= self.batch_size:
                yield from self._encode()
        elif isinstance(found, MediaError):
            kept = [entry for entry in self._waiting if entry[0] is not clip]
            self._waiting = deque(kept)
            self._n_waiting = sum(len(items) for _, items in kept)
            self._open.pop(index).outputs.close()
            yield Failed(index, self.name, str(found), found.code)
        else:
            clip.end = found
            if clip.is_whole:
                yield self._finished(clip)

    def rest(self) -> Iterator[Encoded | Failed]:
        """What comes of what still waits."""
        while self._waiting:
            yield from self._encode()
        while self._in_flight:
            yield from self._settle()

    def close(self) -> None:
        """Forget what is kept of clips that will not become whole."""
        for clip in self._open.values():
            clip.outputs.close()

    def _encode(self) -> Iterator[Encoded | Failed]:
        """Begin the next batch, of however many clips; the clips that older ones make whole."""
        parts = list(self._next())
        with self.meter.at("encode", self.name):
            items = pad_batch([items for _, items in parts], self.encoder, self.batch_size)
            output = self._encoded(items)
        self._in_flight.append((parts, output))
        while len(self._in_flight) > (IN_FLIGHT if output.event else 0):
            yield from self._settle()

    def _next(self) -> Iterator[tuple[_ClipInProgress, Tensor]]:
        """Up to a batch of items from the head of the line."""
        n_items = min(self.batch_size, self._n_waiting)
        self._n_waiting -= n_items
        while n_items:
            clip, items = self._waiting.popleft()
            if len(items) > n_items:
                self._waiting.appendleft((clip, items[n_items:]))
                items = items[:n_items]
            n_items -= len(items)
            yield clip, items

    def _encoded(self, items: Tensor) -> "_Output":
        """The outputs of a batch; in smaller batches from here on where memory is too small."""
        try:
            if len(items) <= self.batch_size:
                return _Output.of(self.encoder.encode(_pin(items, self.encoder.device)))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            self.batch_size = self._smaller(len(items))
        parts = [self._encoded(part) for part in items.split(self.batch_size)]
        return _Output.of(torch.cat([part.on_cpu() for part in parts]))

    def _smaller(self, n_items: int) -> int:
        """Half of a batch that did not fit."""
        if n_items == 1:
            raise VaflowError(
                f"{self.encoder.device} has too little memory to encode one item for {self.name}; "
                "free some, or give another device or a smaller encoder or precision"
            )
        torch.cuda.empty_cache()  # nothing where there is no GPU
        log.warning(
            "%s: a batch of %d does not fit into the memory of %s: %d from here on",
            self.name,
            n_items,
            self.encoder.device,
            n_items // 2,
        )
        return n_items // 2

    def _settle(self) -> Iterator[Encoded | Failed]:
        """The clips that the oldest batch in flight makes whole."""
        parts, output = self._in_flight.popleft()
        with self.meter.at("encode", self.name):
            found = output.on_cpu()[: sum(len(items) for _, items in parts)]
        for (clip, _), part in zip(parts, found.split([len(p) for _, p in parts]), strict=True):
            if self._open.get(clip.index) is not clip:  # it has failed meanwhile
                continue
            clip.outputs.add(part)
            if clip.is_whole:
                yield self._finished(clip)

    def _finished(self, clip: _ClipInProgress) -> Encoded | Failed:
        """The clip's track, or why it cannot be one."""
        del self._open[clip.index]
        assert clip.end is not None
        try:
            with closing(clip.outputs) as outputs:
                values = outputs.in_order(clip.end.order)
                track, note = self.encoder.assemble(values, clip.end.layout)
        except MediaError as error:
            return Failed(clip.index, self.name, str(error), error.code)
        except ValueError as error:  # a Track refuses what it cannot be
            return Failed(clip.index, self.name, str(error), "damaged")
        return Encoded(clip.index, self.name, track, note)


@dataclass(frozen=True, slots=True)
class _Output:
    """A batch's outputs in float16, on the CPU or on their way to it."""

    values: Tensor
    event: "torch.cuda.Event | None" = None
    """Has happened when the values are there."""

    @classmethod
    def of(cls, values: Tensor) -> "_Output":
        """Begin to fetch them; nobody waits here."""
        if values.device.type != "cuda":
            return cls(values.half())
        fetched = torch.empty(values.shape, dtype=torch.float16, pin_memory=True)
        fetched.copy_(values, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        return cls(fetched, event)

    def on_cpu(self) -> Tensor:
        """The values, when they are there."""
        if self.event:
            self.event.synchronize()
        return self.values


def pad_batch(parts: Sequence[Tensor], encoder: Encoder, batch_size: int) -> Tensor:
    """The items of a batch; what is too few is filled up with blank ones.

    How clips are dealt out to runs then decides no number on a CPU. A GPU may choose its way of
    multiplying by the size of a batch, so that its last one is filled up whole.
    """
    on_cpu = encoder.device.type == "cpu"
    n_blank = (min(batch_size, LEAST_ON_CPU) if on_cpu else batch_size) - sum(map(len, parts))
    return torch.cat([*parts, encoder.blank(n_blank)] if n_blank > 0 else list(parts))


def _pin(items: Tensor, device: torch.device) -> Tensor:
    """The items where a GPU can fetch them without the CPU waiting."""
    return items.pin_memory() if device.type == "cuda" else items


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device, or the CPU, had no memory for what was to be done."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def largest_batch(encoder: Encoder) -> int:
    """The largest batch, of so many halvings, that the memory of the encoder's device takes.

    On a CPU it is the encoder's own number: more items would only wait longer to be full.
    """
    if encoder.device.type == "cpu":
        return encoder.cpu_batch
    n_items = encoder.gpu_batch
    while n_items > 1:
        try:
            encoder.encode(encoder.blank(n_items))
            break
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        torch.cuda.empty_cache()
        n_items //= 2
    log.info("%s: batches of %d on %s", encoder.spec.name, n_items, encoder.device)
    return n_items
