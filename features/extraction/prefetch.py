"""Clips read ahead of the encoders: what readers' threads put into a bounded queue."""

import hashlib
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
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

QUEUE_PIECES = 8  # pieces of up to 64 pictures that wait for the encoder: memory stays flat
POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class ReadTask:
    """One clip, and the feature sets that it is read for."""

    index: int
    """Its place in the line."""
    source: Source
    wanted: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EndOfClip:
    """That a clip was read to its end for one feature set."""

    layout: Any
    """How its items lie in time."""
    order: tuple[int, ...]
    """For each item, which of the different ones it is."""


ReadItem = Tensor | MediaError | EndOfClip
"""Items that differ from all before them in the clip; why it cannot be read; or its end."""


def prefetch(
    encoders: Mapping[str, Encoder],
    tasks: Iterable[ReadTask],
    decoders: Sequence[Decoder],
    meter: StageTimer,
) -> Generator[tuple[int, str, ReadItem], None, None]:
    """What readers make of the clips: for each place and feature set items, then how they end.

    Each reader is a thread with a process that decodes for it; it takes the next task when it
    begins it, one thread at a time. Any other failure of a reader is raised here. Where not all is
    read, the decoders are stopped, and of no further use.
    """
    queue: Queue[tuple[int, str, ReadItem] | None] = Queue(QUEUE_PIECES)
    stop = threading.Event()
    turn, lock = iter(tasks), threading.Lock()

    def put(found: tuple[int, str, ReadItem] | None) -> None:
        with meter.at("hold"):
            while not stop.is_set():
                try:
                    return queue.put(found, timeout=POLL_S)
                except Full:
                    continue

    def reader(decoder: Decoder) -> None:
        try:
            while not stop.is_set():
                with lock:
                    task = next(turn, None)
                if task is None:
                    break
                for name, found in _read_clip(encoders, task, decoder, meter):
                    put((task.index, name, found))
                    if stop.is_set():
                        break
        except Stopped:
            assert stop.is_set()
        decoder.also_decode_audio(None)
        put(None)

    with (
        _one_thread_each(),
        ThreadPoolExecutor(len(decoders), "reader", torch.set_num_threads, (1,)) as pool,
    ):
        running = [pool.submit(reader, decoder) for decoder in decoders]
        n_ended = 0
        try:
            while n_ended < len(decoders):
                for future in running:
                    if future.done() and (error := future.exception()):
                        raise error
                meter.note_depth(queue.qsize())
                try:
                    with meter.at("starve"):
                        found = queue.get(timeout=POLL_S)
                except Empty:
                    continue
                if found is None:
                    n_ended += 1
                else:
                    yield found
        finally:
            stop.set()
            if n_ended < len(decoders):
                for decoder in decoders:
                    decoder.client.stop()


def _read_clip(
    encoders: Mapping[str, Encoder], task: ReadTask, decoder: Decoder, meter: StageTimer
) -> Iterator[tuple[str, ReadItem]]:
    """One clip for each of its feature sets, sight before sound: both from one decoding."""
    wanted = sorted(task.wanted, key=lambda name: encoders[name].modality != "visual")
    rates_hz = [rate for name in wanted if (rate := encoders[name].rate_hz)]
    both = 0 < len(rates_hz) < len(wanted)
    decoder.also_decode_audio(rates_hz[0] if both and task.source.audio is None else None)
    for name in wanted:
        with closing(encoders[name].read(task.source, decoder)) as items:
            distinct = _ItemDeduplicator()
            found: ReadItem | None = None
            while not isinstance(found, MediaError | EndOfClip):
                began_s, waited_s = time.monotonic(), decoder.client.waited_s
                try:
                    item = next(items)
                    if isinstance(item, Tensor):
                        found = distinct.of(item)
                    else:  # the layout, which is the last item
                        found = EndOfClip(item, tuple(distinct.order))
                except MediaError as error:
                    found = error
                waited_s = decoder.client.waited_s - waited_s
                meter.add("decode", waited_s)
                meter.add("prepare", time.monotonic() - began_s - waited_s)
                if not isinstance(found, Tensor) or len(found):
                    yield name, found


class _ItemDeduplicator:
    """Which items of a clip are the same, bit by bit: a still picture, or silence."""

    def __init__(self) -> None:
        self.order: list[int] = []
        self._seen: dict[bytes, int] = {}

    def of(self, items: Tensor) -> Tensor:
        """Those of the items that were not there before."""
        new: list[int] = []
        for place, item in enumerate(items):
            digest = hashlib.sha256(item.contiguous().numpy().data).digest()
            if digest not in self._seen:
                self._seen[digest] = len(self._seen)
                new.append(place)
            self.order.append(self._seen[digest])
        return items if len(new) == len(items) else items[new]


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Within, threads that are begun may take one core each: the others are the encoder's."""
    n_threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)  # what the readers set holds for threads to come
