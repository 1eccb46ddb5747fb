"""Encodes clips that are read ahead, in batches that run on from clip to clip.

decoding processes -> readers (threads) -> bounded queue of items -> batches across clips -> tracks
"""

import logging
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field

import torch
from torch import Tensor

from features.clip import Track
from features.encoders.base import DTYPES, Encoder
from features.errors import MediaCode, MediaError, VaflowError
from features.extraction.output_buffer import OutputBuffer
from features.extraction.prefetch import (
    QUEUE_PIECES,
    EndOfClip,
    OnRead,
    ReadItem,
    ReadTask,
    prefetch,
)
from features.extraction.stage_times import StageTimer
from features.media.decoder import Decoder

log = logging.getLogger(__name__)

IN_FLIGHT = 1  # batches that a GPU encodes while the next one is prepared
LEAST_ON_CPU = 16  # items of a batch: matrix products of fewer differ in the last bit
# (`test_batching.py::test_an_item_has_the_same_output_in_any_batch`)


@dataclass(frozen=True, slots=True)
class Encoded:
    """A clip that was encoded for one feature set."""

    index: int
    """Index of the clip's task."""
    feature_set: str
    track: Track
    note: str | None
    """What is unusual about the track."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A clip that could not be encoded for one feature set."""

    index: int
    feature_set: str
    detail: str
    code: MediaCode


@dataclass(slots=True)
class _ClipInProgress:
    index: int
    outputs: OutputBuffer = field(default_factory=OutputBuffer)
    n_read: int = 0
    end: EndOfClip | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the clip is read to its end and all its items are encoded."""
        return self.end is not None and self.outputs.n_items == self.n_read


def encode_all(
    encoders: Mapping[str, Encoder],
    tasks: Iterable[ReadTask],
    *,
    batch_sizes: Mapping[str, int],
    decoders: Sequence[Decoder],
    timer: StageTimer | None = None,
    on_read: OnRead | None = None,
) -> Generator[Encoded | Failed, None, None]:
    """Yield the result of each clip and feature set when it is ready, in any order.

    `encoders` and `batch_sizes` are by feature set. Each decoder serves one reader. All batches of
    an encoder but the last are full.
    """
    timer = timer or StageTimer(QUEUE_PIECES)
    queues = {
        name: _EncoderQueue(name, encoder, batch_sizes[name], timer)
        for name, encoder in encoders.items()
    }
    with ExitStack() as stack:
        for queue in queues.values():
            stack.enter_context(closing(queue))
        with closing(prefetch(encoders, tasks, decoders, timer, on_read)) as items:
            for index, name, item in items:
                yield from queues[name].add(index, item)
        for queue in queues.values():
            yield from queue.flush()


class _EncoderQueue:
    """The items that wait for one encoder, its batches in flight, and its clips in progress."""

    def __init__(self, name: str, encoder: Encoder, batch_size: int, timer: StageTimer) -> None:
        self.name, self.encoder, self.batch_size, self.timer = name, encoder, batch_size, timer
        self._clips: dict[int, _ClipInProgress] = {}
        self._waiting: deque[tuple[_ClipInProgress, Tensor]] = deque()
        self._n_waiting = 0
        self._in_flight: deque[tuple[list[tuple[_ClipInProgress, Tensor]], BatchOutput]] = deque()

    def add(self, index: int, item: ReadItem) -> Iterator[Encoded | Failed]:
        """Add what was read of a clip; yield the clips that this completes."""
        if index not in self._clips:
            self._clips[index] = _ClipInProgress(index)
        clip = self._clips[index]
        if isinstance(item, Tensor):
            self._waiting.append((clip, item))
            self._n_waiting += len(item)
            clip.n_read += len(item)
            while self._n_waiting >= self.batch_size:
                yield from self._encode_batch()
        elif isinstance(item, MediaError):
            others = [entry for entry in self._waiting if entry[0] is not clip]
            self._waiting = deque(others)
            self._n_waiting = sum(len(items) for _, items in others)
            self._clips.pop(index).outputs.close()
            yield Failed(index, self.name, str(item), item.code)
        else:
            clip.end = item
            if clip.is_complete:
                yield self._assemble(clip)

    def flush(self) -> Iterator[Encoded | Failed]:
        """Encode all waiting items; yield the clips that this completes."""
        while self._waiting:
            yield from self._encode_batch()
        while self._in_flight:
            yield from self._collect()

    def close(self) -> None:
        """Delete the outputs of incomplete clips."""
        for clip in self._clips.values():
            clip.outputs.close()

    def _encode_batch(self) -> Iterator[Encoded | Failed]:
        """Start the next batch; yield the clips that older batches complete."""
        parts = list(self._next_batch())
        with self.timer.measure("encode", self.name):
            items = pad_batch([items for _, items in parts], self.encoder, self.batch_size)
            output = self._encode(items)
        self._in_flight.append((parts, output))
        while len(self._in_flight) > (IN_FLIGHT if output.event else 0):
            yield from self._collect()

    def _next_batch(self) -> Iterator[tuple[_ClipInProgress, Tensor]]:
        """Take up to a batch of waiting items, by clip."""
        n_items = min(self.batch_size, self._n_waiting)
        self._n_waiting -= n_items
        while n_items:
            clip, items = self._waiting.popleft()
            if len(items) > n_items:
                self._waiting.appendleft((clip, items[n_items:]))
                items = items[:n_items]
            n_items -= len(items)
            yield clip, items

    def _encode(self, items: Tensor) -> "BatchOutput":
        """The outputs of a batch; halves the batch size when memory is too small."""
        try:
            if len(items) <= self.batch_size:
                # a GPU copies from pinned memory without blocking the CPU
                on_gpu = self.encoder.device.type == "cuda"
                values = self.encoder.encode(items.pin_memory() if on_gpu else items)
                return BatchOutput.fetch(values, DTYPES[self.encoder.spec.stored])
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            n_items, device = len(items), self.encoder.device
            if n_items == 1:
                raise VaflowError(
                    f"{device} has too little memory to encode one item for {self.name}; "
                    "free some, or give another device or a smaller encoder or precision"
                ) from error
            torch.cuda.empty_cache()  # no effect without a GPU
            self.batch_size = n_items // 2
            text = "%s: a batch of %d does not fit into the memory of %s: %d from here on"
            log.warning(text, self.name, n_items, device, self.batch_size)
        parts = [self._encode(part) for part in items.split(self.batch_size)]
        joined = torch.cat([part.on_cpu() for part in parts])
        return BatchOutput.fetch(joined, joined.dtype)

    def _collect(self) -> Iterator[Encoded | Failed]:
        """Wait for the oldest batch in flight; yield the clips that it completes."""
        parts, output = self._in_flight.popleft()
        with self.timer.measure("encode", self.name):
            values = output.on_cpu()[: sum(len(items) for _, items in parts)]
        for (clip, _), part in zip(parts, values.split([len(p) for _, p in parts]), strict=True):
            if self._clips.get(clip.index) is not clip:  # failed while the batch was in flight
                continue
            clip.outputs.add(part)
            if clip.is_complete:
                yield self._assemble(clip)

    def _assemble(self, clip: _ClipInProgress) -> Encoded | Failed:
        """The track of a complete clip, or why there is none."""
        del self._clips[clip.index]
        assert clip.end is not None
        try:
            with closing(clip.outputs) as outputs:
                values = outputs.in_order(clip.end.order)
                track, note = self.encoder.assemble(values, clip.end.layout)
        except MediaError as error:
            return Failed(clip.index, self.name, str(error), error.code)
        except ValueError as error:  # `Track` checks what it is given
            return Failed(clip.index, self.name, str(error), "damaged")
        return Encoded(clip.index, self.name, track, note)


@dataclass(frozen=True, slots=True)
class BatchOutput:
    """The outputs of a batch as they are stored, on the CPU or being copied to it."""

    values: Tensor
    event: "torch.cuda.Event | None" = None
    """Recorded after the copy from a GPU."""

    @classmethod
    def fetch(cls, values: Tensor, dtype: torch.dtype = torch.float16) -> "BatchOutput":
        """Start copying outputs to the CPU, into pinned memory, without waiting."""
        if values.device.type != "cuda":
            return cls(values.to(dtype))
        pinned = torch.empty(values.shape, dtype=dtype, pin_memory=True)
        pinned.copy_(values, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        return cls(pinned, event)

    def on_cpu(self) -> Tensor:
        """The values; waits until they are copied."""
        if self.event:
            self.event.synchronize()
        return self.values


def pad_batch(parts: Sequence[Tensor], encoder: Encoder, batch_size: int) -> Tensor:
    """The items of a batch, with blank items added to a batch that is too small.

    A batch on a CPU has at least `LEAST_ON_CPU` items, so that its size does not change the
    numbers. A GPU may choose another kernel for each batch size, so its batches are always full.
    """
    on_cpu = encoder.device.type == "cpu"
    n_blank = (min(batch_size, LEAST_ON_CPU) if on_cpu else batch_size) - sum(map(len, parts))
    return torch.cat([*parts, encoder.blank(n_blank)] if n_blank > 0 else list(parts))


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch could not allocate memory, on a GPU or the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def largest_batch(encoder: Encoder) -> int:
    """The encoder's batch size on a GPU, halved until a batch fits into memory.

    On a CPU it is the encoder's own batch size: larger batches are no faster.
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
