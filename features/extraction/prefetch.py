"""Reads clips ahead of the encoders: reader threads fill a bounded queue."""

import hashlib
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import Any

import torch
from torch import Tensor

from features.clip import Source
from features.encoders.base import Encoder
from features.errors import MediaError
from features.extraction.stage_times import StageTimer
from features.media.decoder import Decoder
from features.media.worker.client import Stopped

QUEUE_PIECES = 8  # pieces of up to 64 frames that wait for the encoder, which bounds the memory
POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class ReadTask:
    """A clip, and the feature sets that it is read for."""

    index: int
    """Identifies the task among those of one call."""
    source: Source
    feature_sets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EndOfClip:
    """The end of a clip for one feature set."""

    layout: Any
    """How the items lie in time, as `Encoder.assemble` takes it."""
    order: tuple[int, ...]
    """For each item of the clip, the index of its distinct item."""


ReadItem = Tensor | MediaError | EndOfClip
"""Items (N, ...) that differ from all before them in the clip, or why the clip cannot be read, or
its end."""


OnRead = Callable[[int, str, int], None]
"""Called with the index of a task, a feature set, and how many items were read so far; by the
thread that reads."""


def prefetch(
    encoders: Mapping[str, Encoder],
    tasks: Iterable[ReadTask],
    decoders: Sequence[Decoder],
    timer: StageTimer,
    on_read: OnRead | None = None,
) -> Generator[tuple[int, str, ReadItem], None, None]:
    """Yield the index of a task, a feature set, and what was read of the clip for it.

    Each decoder serves one reader, a thread that takes the next task when it is free. Errors of
    readers other than `MediaError` are raised here. If the generator is closed before its end, the
    decoders are stopped and cannot be used again.
    """
    queue: Queue[tuple[int, str, ReadItem] | None] = Queue(QUEUE_PIECES)
    stop = threading.Event()
    task_iterator, task_lock = iter(tasks), threading.Lock()

    def put(entry: tuple[int, str, ReadItem] | None) -> None:
        with timer.measure("queue_full"):
            while not stop.is_set():
                try:
                    return queue.put(entry, timeout=POLL_S)
                except Full:
                    continue

    def reader(decoder: Decoder) -> None:
        try:
            while not stop.is_set():
                with task_lock:
                    task = next(task_iterator, None)
                if task is None:
                    break
                for name, item in _read_clip(encoders, task, decoder, timer, on_read):
                    put((task.index, name, item))
                    if stop.is_set():
                        break
        except Stopped:
            assert stop.is_set()
        decoder.also_decode_audio(None)
        put(None)

    with ExitStack() as stack:
        # readers set torch's number of threads for those started after them, too (test_batching.py)
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        pool = ThreadPoolExecutor(len(decoders), "reader", torch.set_num_threads, (1,))
        stack.enter_context(pool)
        readers = [pool.submit(reader, decoder) for decoder in decoders]
        n_ended = 0
        try:
            while n_ended < len(decoders):
                for future in readers:
                    if future.done() and (error := future.exception()):
                        raise error
                timer.add_depth(queue.qsize())
                try:
                    with timer.measure("queue_empty"):
                        entry = queue.get(timeout=POLL_S)
                except Empty:
                    continue
                if entry is None:
                    n_ended += 1
                else:
                    yield entry
        finally:
            stop.set()
            if n_ended < len(decoders):
                for decoder in decoders:
                    decoder.client.stop()


def _read_clip(
    encoders: Mapping[str, Encoder],
    task: ReadTask,
    decoder: Decoder,
    timer: StageTimer,
    on_read: OnRead | None,
) -> Iterator[tuple[str, ReadItem]]:
    """Yield what is read of a clip for each feature set, visual before audio.

    A video is decoded once for its frames and its audio.
    """
    names = sorted(task.feature_sets, key=lambda name: encoders[name].modality == "audio")
    rates_hz = [rate for name in names if (rate := encoders[name].rate_hz)]
    both = 0 < len(rates_hz) < len(names)
    decoder.also_decode_audio(rates_hz[0] if both and task.source.audio is None else None)
    for name in names:
        with closing(encoders[name].read(task.source, decoder)) as items:
            deduplicator = _ItemDeduplicator()
            read: ReadItem | None = None
            while not isinstance(read, MediaError | EndOfClip):
                started_s, waited_s = time.monotonic(), decoder.client.waited_s
                try:
                    item = next(items)
                    if isinstance(item, Tensor):
                        read = deduplicator.distinct(item)
                        if on_read:
                            on_read(task.index, name, len(deduplicator.order))
                    else:  # the layout, which is the last item
                        read = EndOfClip(item, tuple(deduplicator.order))
                        # to the end of the request, or closing it would kill the process
                        # (test_a_decoding_process_serves_one_clip_after_another)
                        next(items, None)
                except MediaError as error:
                    read = error
                waited_s = decoder.client.waited_s - waited_s
                timer.add("decode", waited_s)
                timer.add("prepare", time.monotonic() - started_s - waited_s)
                if not isinstance(read, Tensor) or len(read):
                    yield name, read


class _ItemDeduplicator:
    """Finds items of a clip that are equal bit by bit, such as a still image or silence."""

    def __init__(self) -> None:
        self.order: list[int] = []
        self._index_of: dict[bytes, int] = {}

    def distinct(self, items: Tensor) -> Tensor:
        """The items that did not occur before in the clip."""
        new: list[int] = []
        for index, item in enumerate(items):
            digest = hashlib.sha256(item.contiguous().numpy().data).digest()
            if digest not in self._index_of:
                self._index_of[digest] = len(self._index_of)
                new.append(index)
            self.order.append(self._index_of[digest])
        return items if len(new) == len(items) else items[new]
