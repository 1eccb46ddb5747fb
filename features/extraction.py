"""Stage one: what the store lacks of a manifest is decoded, encoded in batches and stored.

    readers (threads) -> bounded queue of items -> batches across clips -> encoder -> store

A clip that cannot be decoded is an `Outcome`; the others go on.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Full, Queue
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from features.devices import DeviceName, torch_device
from features.encoders import AnyEncoderConfig
from features.encoders.base import Encoder
from features.errors import MediaError
from features.manifest import Manifest, read_manifest
from features.provenance import provenance
from features.records import JsonObject, Source
from features.sources import SourceDigests
from features.spec import FeatureSpec
from features.store import FeatureStore

QUEUE_PIECES = 8  # pieces of up to 64 pictures that wait for the encoder: memory stays flat
POLL_S = 0.2

Count = Annotated[int, Field(ge=1)]
Reason = Literal["new", "source changed", "corrupt", "forced"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one clip ended for one feature set."""

    clip: str
    feature_set: str
    state: Literal["extracted", "present", "failed"]
    detail: str = ""
    """Why it was extracted, or what failed."""
    note: str | None = None
    """What is odd about the record, such as why it is empty."""
    n_rows: int = 0


@dataclass(frozen=True, slots=True)
class Extraction:
    """How a run of stage one ended."""

    outcomes: tuple[Outcome, ...]
    seconds: float

    @property
    def counts(self) -> Counter[str]:
        """Outcomes by state."""
        return Counter(outcome.state for outcome in self.outcomes)

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """What could not be done."""
        return tuple(outcome for outcome in self.outcomes if outcome.state == "failed")

    def notes(self) -> list[str]:
        """What is odd about clips that have their features, a line each."""
        return [f"{o.clip}: {o.note}" for o in self.outcomes if o.note]

    def summary(self) -> str:
        """One line for a log."""
        counts = self.counts
        sets = len({outcome.feature_set for outcome in self.outcomes})
        clips = len({outcome.clip for outcome in self.outcomes})
        nothing = "; nothing to encode" if counts["present"] == len(self.outcomes) else ""
        return (
            f"extract-features: {clips} clips x {sets} feature sets: {counts['extracted']} "
            f"extracted, {counts['present']} already there, {counts['failed']} failed, in "
            f"{self.seconds:.1f} s{nothing}"
        )


@dataclass(frozen=True, slots=True)
class Job:
    """One clip that a feature set lacks."""

    source: Source
    reason: Reason
    source_digest: JsonObject


def extract_features(
    manifest: Path,
    store: str,
    encoders: Sequence[AnyEncoderConfig],
    *,
    device: DeviceName = "auto",
    batch_size: Count = 64,
    readers: Count = 2,
    force: bool = False,
    on_outcome: Callable[[Outcome, int], None] | None = None,
) -> Extraction:
    """Bring the store up to the manifest; `on_outcome` hears of each clip, with the total."""
    began = time.monotonic()
    clips = read_manifest(manifest)
    specs = [config.spec() for config in encoders]
    place = torch_device(device)
    target = FeatureStore.open(store, create=True)
    digests = SourceDigests()
    total = len(clips.clips) * len(encoders)
    outcomes: list[Outcome] = []

    def settle(outcome: Outcome) -> None:
        outcomes.append(outcome)
        if on_outcome:
            on_outcome(outcome, total)

    for config, spec in zip(encoders, specs, strict=True):
        jobs = list(_missing(clips, config, spec, target, digests, settle, force=force))
        if jobs:
            encoder = config.build(place)
            made_by = {
                **provenance(),
                "encoder": config.model_dump(mode="json"),
                "device": str(place),
                "batch_size": batch_size,
            }
            _encode_all(encoder, jobs, target, made_by, settle, batch_size, readers)
    return Extraction(tuple(outcomes), time.monotonic() - began)


def _missing(
    clips: Manifest,
    config: AnyEncoderConfig,
    spec: FeatureSpec,
    store: FeatureStore,
    digests: SourceDigests,
    settle: Callable[[Outcome], None],
    *,
    force: bool,
) -> Iterator[Job]:
    """The clips to extract; the others are settled at once."""
    reasons: dict[str, Reason] = {
        "missing": "new",
        "stale": "source changed",
        "corrupt": "corrupt",
        "complete": "forced",
    }
    for clip in clips.clips:
        source = clips.source(clip)
        try:
            digest = digests.of(source, config.modality)
        except MediaError as error:
            settle(Outcome(clip.id, spec.name, "failed", str(error)))
            continue
        state, why = store.state(spec.name, clip.id, digest)
        if state == "complete" and not force:
            settle(Outcome(clip.id, spec.name, "present", note=why or None))
        else:
            yield Job(source, reasons[state], digest)


@dataclass(slots=True)
class _Open:
    """A clip on its way through the encoder."""

    job: Job
    outputs: list[Tensor]
    n_read: int = 0
    n_encoded: int = 0
    layout: Any = None


def _encode_all(
    encoder: Encoder,
    jobs: Sequence[Job],
    store: FeatureStore,
    made_by: JsonObject,
    settle: Callable[[Outcome], None],
    batch_size: int,
    readers: int,
) -> None:
    """Encode all jobs with batches that run on from clip to clip; store each as it is whole."""
    clips = [_Open(job, []) for job in jobs]
    waiting: deque[tuple[_Open, Tensor]] = deque()

    def encode(n_items: int) -> None:
        """Encode the next items, of however many clips."""
        parts = list(_take(waiting, n_items))
        outputs = encoder.encode(torch.cat([items for _, items in parts]))
        for (clip, items), output in zip(
            parts, outputs.split([len(items) for _, items in parts]), strict=True
        ):
            clip.outputs.append(output)
            clip.n_encoded += len(items)
            finish(clip)

    def finish(clip: _Open) -> None:
        """Store a clip once it is read to its end and all of it is encoded."""
        if clip.layout is None or clip.n_encoded < clip.n_read:
            return
        job = clip.job
        try:
            track, note = encoder.assemble(clip.outputs, clip.layout)
        except (MediaError, ValueError) as error:  # a Track refuses what it cannot be
            settle(Outcome(job.source.clip_id, encoder.spec.name, "failed", str(error)))
            return
        store.write(
            encoder.spec,
            job.source.clip_id,
            track,
            source=job.source_digest,
            provenance={**made_by, "reason": job.reason},
            note=note,
        )
        clip.outputs, clip.layout = [], None
        settle(
            Outcome(
                job.source.clip_id,
                encoder.spec.name,
                "extracted",
                job.reason,
                note,
                len(track.time_s),
            )
        )

    for clip, piece in _read_all(encoder, clips, readers):
        if isinstance(piece, Tensor):
            waiting.append((clip, piece))
            clip.n_read += len(piece)
            while sum(len(items) for _, items in waiting) >= batch_size:
                encode(batch_size)
        elif isinstance(piece, MediaError):
            for entry in [entry for entry in waiting if entry[0] is clip]:
                waiting.remove(entry)
            settle(Outcome(clip.job.source.clip_id, encoder.spec.name, "failed", str(piece)))
        else:
            clip.layout = piece
            finish(clip)
    while waiting:
        encode(batch_size)


def _take(waiting: deque[tuple[_Open, Tensor]], n_items: int) -> Iterator[tuple[_Open, Tensor]]:
    """Up to `n_items` items from the head of the line."""
    while n_items and waiting:
        clip, items = waiting.popleft()
        if len(items) > n_items:
            waiting.appendleft((clip, items[n_items:]))
            items = items[:n_items]
        n_items -= len(items)
        yield clip, items


def _read_all(
    encoder: Encoder, clips: Sequence[_Open], n_readers: int
) -> Iterator[tuple[_Open, Any]]:
    """What readers' threads make of the clips: items, then a layout or a `MediaError` each.

    Any other failure of a reader is raised here.
    """
    queue: Queue[tuple[_Open | None, Any]] = Queue(QUEUE_PIECES)
    stop = threading.Event()
    turn = iter(clips)
    lock = threading.Lock()

    def put(clip: _Open | None, piece: Any) -> None:
        while not stop.is_set():
            try:
                return queue.put((clip, piece), timeout=POLL_S)
            except Full:
                continue

    def reader() -> None:
        while not stop.is_set():
            with lock:
                clip = next(turn, None)
            if clip is None:
                break
            try:
                pieces = encoder.read(clip.job.source)
                while not stop.is_set():
                    put(clip, next(pieces))
            except StopIteration as end:
                put(clip, end.value)
            except MediaError as error:
                put(clip, error)
        put(None, None)

    n_readers = min(n_readers, len(clips))
    with ThreadPoolExecutor(n_readers, thread_name_prefix="reader") as pool:
        running = [pool.submit(reader) for _ in range(n_readers)]
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
