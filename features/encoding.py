"""Clips through an encoder: read ahead of it, in batches that run on from clip to clip.

decode processes -> readers (threads) -> bounded queue of items -> batches across clips -> encoder
-> tracks
"""

import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from queue import Empty, Full, Queue
from typing import Any

import torch
from torch import Tensor

from features.decoder import Decoder, Stopped
from features.encoders.base import Encoder
from features.errors import MediaCode, MediaError
from features.limits import GENEROUS, DecodeLimits
from features.processes import n_cores
from features.records import Source, Track

QUEUE_PIECES = 8  # pieces of up to 64 pictures that wait for the encoder: memory stays flat
POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Encoded:
    """One clip that came through."""

    index: int
    """Its place in the line."""
    track: Track
    note: str | None
    """What is odd about it."""


@dataclass(frozen=True, slots=True)
class Failed:
    """One clip that did not."""

    index: int
    why: str
    code: MediaCode


@dataclass(slots=True)
class _Open:
    """A clip on its way."""

    index: int
    source: Source
    outputs: list[Tensor] = field(default_factory=list)
    n_read: int = 0
    n_encoded: int = 0
    layout: Any = None

    @property
    def is_whole(self) -> bool:
        """Whether it is read to its end and all of it is encoded."""
        return self.layout is not None and self.n_encoded == self.n_read


def encode_all(
    encoder: Encoder,
    sources: Iterable[Source],
    *,
    batch_size: int,
    readers: int,
    limits: DecodeLimits = GENEROUS,
) -> Generator[Encoded | Failed, None, None]:
    """Each clip as it is done, in whatever order; every batch but the last is full.

    Readers' threads take each source when they begin it, one thread at a time.
    """
    waiting: deque[tuple[_Open, Tensor]] = deque()
    with closing(_read_all(encoder, sources, readers, limits)) as pieces:
        for clip, piece in pieces:
            if isinstance(piece, Tensor):
                waiting.append((clip, piece))
                clip.n_read += len(piece)
                while sum(len(items) for _, items in waiting) >= batch_size:
                    yield from _encode(encoder, waiting, batch_size)
            elif isinstance(piece, MediaError):
                for entry in [entry for entry in waiting if entry[0] is clip]:
                    waiting.remove(entry)
                yield Failed(clip.index, str(piece), piece.code)
            else:
                clip.layout = piece
                if clip.is_whole:
                    yield _finished(encoder, clip)
    while waiting:
        yield from _encode(encoder, waiting, batch_size)


def _encode(
    encoder: Encoder, waiting: deque[tuple[_Open, Tensor]], n_items: int
) -> Iterator[Encoded | Failed]:
    """Encode the next items, of however many clips; the clips that this makes whole."""
    parts = list(_take(waiting, n_items))
    outputs = encoder.encode(torch.cat([items for _, items in parts]))
    sizes = [len(items) for _, items in parts]
    for (clip, _), output in zip(parts, outputs.split(sizes), strict=True):
        clip.outputs.append(output)
        clip.n_encoded += len(output)
        if clip.is_whole:
            yield _finished(encoder, clip)


def _take(waiting: deque[tuple[_Open, Tensor]], n_items: int) -> Iterator[tuple[_Open, Tensor]]:
    """Up to `n_items` items from the head of the line."""
    while n_items and waiting:
        clip, items = waiting.popleft()
        if len(items) > n_items:
            waiting.appendleft((clip, items[n_items:]))
            items = items[:n_items]
        n_items -= len(items)
        yield clip, items


def _finished(encoder: Encoder, clip: _Open) -> Encoded | Failed:
    """The clip's track, or why it cannot be one."""
    try:
        track, note = encoder.assemble(clip.outputs, clip.layout)
    except MediaError as error:
        return Failed(clip.index, str(error), error.code)
    except ValueError as error:  # a Track refuses what it cannot be
        return Failed(clip.index, str(error), "damaged")
    return Encoded(clip.index, track, note)


def _read_all(
    encoder: Encoder, sources: Iterable[Source], n_readers: int, limits: DecodeLimits
) -> Generator[tuple[_Open, Any], None, None]:
    """What readers' threads make of the clips: items, then a layout or a `MediaError` each.

    Each thread has a process that decodes for it. Any other failure of a reader is raised here.
    """
    queue: Queue[tuple[_Open | None, Any]] = Queue(QUEUE_PIECES)
    stop = threading.Event()
    turn = (_Open(index, source) for index, source in enumerate(sources))
    lock = threading.Lock()

    def put(clip: _Open | None, piece: Any) -> None:
        while not stop.is_set():
            try:
                return queue.put((clip, piece), timeout=POLL_S)
            except Full:
                continue

    def reader(decoder: Decoder) -> None:
        with closing(decoder):
            try:
                read(decoder)
            except Stopped:
                assert stop.is_set()
        put(None, None)

    def read(decoder: Decoder) -> None:
        while not stop.is_set():
            with lock:
                clip = next(turn, None)
            if clip is None:
                break
            with closing(encoder.read(clip.source, decoder)) as pieces:
                try:
                    while not stop.is_set():
                        put(clip, next(pieces))
                except StopIteration as end:
                    put(clip, end.value)
                except MediaError as error:
                    put(clip, error)

    n_threads = max(1, n_cores() // n_readers)
    decoders = [Decoder(limits, n_threads) for _ in range(n_readers)]
    with ThreadPoolExecutor(n_readers, thread_name_prefix="reader") as pool:
        running = [pool.submit(reader, decoder) for decoder in decoders]
        try:
            n_ended = 0
            while n_ended < n_readers:
                for future in running:
                    if future.done() and (error := future.exception()):
                        raise error
                try:
                    clip, piece = queue.get(timeout=POLL_S)
                except Empty:
                    continue
                if clip is None:
                    n_ended += 1
                else:
                    yield clip, piece
        finally:
            stop.set()
            for decoder in decoders:
                decoder.stop()
