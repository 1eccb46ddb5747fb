"""The extraction pipeline: clips are claimed, read, encoded, and stored as they are finished.

A claim is a lock on a clip, per feature set, that is taken before the clip is decoded. A pass over
the clips never waits for a lock, so two processes cannot wait for each other: a clip that waits for
its batch is already claimed.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice

from features.canonical_json import JsonObject
from features.encoders.base import Encoder
from features.errors import MediaError
from features.extraction.batching import Encoded, Failed, encode_all
from features.extraction.outcome import ClipRead, Outcome
from features.extraction.plan import ClipJobs, ExtractionJob, final_outcome
from features.extraction.prefetch import QUEUE_PIECES, ReadTask
from features.extraction.stage_times import StageTimer
from features.extraction.throughput import Throughput, add_throughput, track_throughput
from features.freshness.clip_state import clip_state
from features.freshness.media_digests import SourceDigests
from features.freshness.quarantine import TRANSIENT_CODES, delete_entry, write_entry
from features.media.decoder import Decoder
from features.media.decoder_version import DecoderVersion
from features.store.feature_store import FeatureStore
from features.system.locks import HeldLock

MAX_CLAIMS = 256  # each keeps a file open, and the usual limit of a process is 1024
RETRY_CLAIMS_S = 0.1  # between passes over clips that others have claimed: a process may have died
WRITERS = 4  # publishing a record waits for 16 fsyncs, and a disk serves several at once
WRITES_AHEAD = 4  # records being written while the encoder goes on

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ExtractionPipeline:
    """Turns the clips that feature sets lack into records; mappings are by feature set."""

    store: FeatureStore
    decoder: DecoderVersion
    encoders: Mapping[str, Encoder]
    batch_sizes: Mapping[str, int]
    provenances: Mapping[str, JsonObject]
    digests: SourceDigests
    should_continue: Callable[[], bool]
    """Asked before each clip."""
    on_read: Callable[[ClipRead], None] | None = None
    """Called as a clip is read, by the threads that read."""
    timer: StageTimer = field(default_factory=lambda: StageTimer(QUEUE_PIECES))
    digest_lock: threading.Lock = field(default_factory=threading.Lock)
    """Held by the writer that computes digests: `digests` is used by one thread at a time."""

    def run(
        self, clips: Sequence[ClipJobs], decoders: Sequence[Decoder]
    ) -> Generator[Outcome, None, None]:
        """Yield the outcome of each job as it ends, those of clips claimed elsewhere at the end."""
        remaining = list(clips)
        while remaining and self.should_continue():
            n_jobs = sum(len(jobs) for jobs in remaining)
            claims = _Claims(self, remaining)
            with closing(self._run_pass(claims, decoders[: len(remaining)])) as outcomes:
                yield from outcomes
            remaining = claims.remaining
            if sum(len(jobs) for jobs in remaining) == n_jobs:
                time.sleep(RETRY_CLAIMS_S)
            elif remaining:
                log.info("%d clips are claimed by other processes", len(remaining))

    def _run_pass(
        self, claims: "_Claims", decoders: Sequence[Decoder]
    ) -> Generator[Outcome, None, None]:
        started_s = time.monotonic()
        done: dict[str, Throughput] = {}
        tasks = claims.tasks()
        first = list(islice(tasks, 1))
        if not first:  # no reader is started for nothing
            yield from claims.done_elsewhere
            return
        results = encode_all(
            self.encoders,
            chain(first, tasks),
            batch_sizes=self.batch_sizes,
            decoders=decoders,
            timer=self.timer,
            on_read=partial(self._tell_read, claims) if self.on_read else None,
        )
        with closing(claims), ThreadPoolExecutor(WRITERS, "writer") as writer, closing(results):
            writing: deque[Future[Outcome]] = deque()
            for result in results:
                if isinstance(result, Encoded):
                    so_far = done.get(result.feature_set, Throughput())
                    done[result.feature_set] = so_far + track_throughput(result.track)
                writing.append(writer.submit(self._finish, claims, result))
                while writing and (len(writing) > WRITES_AHEAD or writing[0].done()):
                    yield writing.popleft().result()
            for future in writing:
                yield future.result()
            yield from claims.done_elsewhere
        self._log_throughput(done, time.monotonic() - started_s)

    def _tell_read(self, claims: "_Claims", index: int, feature_set: str, n_items: int) -> None:
        assert self.on_read
        job, _ = claims.claimed[index, feature_set]
        modality = self.encoders[feature_set].modality
        self.on_read(ClipRead(job.clip.id, feature_set, modality, n_items))

    def _finish(self, claims: "_Claims", result: Encoded | Failed) -> Outcome:
        """Store or quarantine a clip and release its claim; runs on a writer thread."""
        job, lock = claims.claimed[result.index, result.feature_set]
        with self.timer.measure("write"):
            if isinstance(result, Failed):
                outcome = self._quarantine(job, result)
            else:
                outcome = self._publish(job, result, lock)
            claims.release(result.index, result.feature_set)
        return outcome

    def _log_throughput(self, done: Mapping[str, Throughput], wall_s: float) -> None:
        """Record the throughput; feature sets share the time in proportion to their encoding."""
        encode_s = sum(self.timer.encode_s[name] for name in done)
        for name, amount in done.items():
            if amount.rows and encode_s:
                seconds = wall_s * self.timer.encode_s[name] / encode_s
                measured = amount + Throughput(seconds=seconds)
                add_throughput(self.store.work, name, self.encoders[name].device.type, measured)

    def _publish(self, job: ExtractionJob, result: Encoded, lock: HeldLock) -> Outcome:
        """Store the track of a clip, unless its media has changed since the plan was made."""
        encoder, clip_id, track = self.encoders[job.feature_set], job.clip.id, result.track
        try:
            with self.digest_lock:
                if self.digests.of(job.source, encoder.modality) != job.source_digest:
                    raise MediaError(
                        "its media changed while it was read; run the same again", "unreadable"
                    )
        except MediaError as error:
            return Outcome(clip_id, job.feature_set, "failed", str(error), reason=job.reason)
        self.store.write(
            encoder.spec,
            clip_id,
            track,
            source=job.source_digest,
            provenance={**self.provenances[job.feature_set], "reason": job.reason},
            note=result.note,
            lock=lock,
        )
        delete_entry(self.store.work, job.feature_set, clip_id)
        return Outcome(
            clip_id,
            job.feature_set,
            "extracted",
            note=result.note,
            n_rows=len(track.time_s),
            reason=job.reason,
            n_bytes=track.n_bytes,
        )

    def _quarantine(self, job: ExtractionJob, result: Failed) -> Outcome:
        """Quarantine a clip, unless its record is complete or the failure may pass."""
        name, clip_id = job.feature_set, job.clip.id
        if result.code in TRANSIENT_CODES or job.state.state == "complete":
            return Outcome(clip_id, name, "failed", result.detail, reason=job.reason)
        write_entry(
            self.store.work,
            name,
            clip_id,
            code=result.code,
            message=result.detail,
            source=job.source_digest,
            decoder=self.decoder,
        )
        return Outcome(clip_id, name, "quarantined", result.detail, reason=job.reason)


class _Claims:
    """The claims of one pass over clips, each taken when the clip is about to be read."""

    def __init__(self, pipeline: ExtractionPipeline, clips: Sequence[ClipJobs]) -> None:
        self._pipeline, self._clips = pipeline, clips
        self.claimed: dict[tuple[int, str], tuple[ExtractionJob, HeldLock]] = {}
        """The claimed jobs that are not finished, by index of the task and feature set."""
        self.remaining: list[ClipJobs] = []
        """The jobs for the next pass: another process has claimed them."""
        self.done_elsewhere: list[Outcome] = []
        """The outcomes of clips that other processes have finished since the plan was made."""

    def tasks(self) -> Iterator[ReadTask]:
        """Yield each clip with the feature sets that it is claimed for."""
        index = 0
        for jobs in self._clips:
            if not self._pipeline.should_continue():
                return
            remaining: list[ExtractionJob] = []
            feature_sets: list[str] = []
            for job in jobs:
                has_room = len(self.claimed) < MAX_CLAIMS
                name, clip_id = job.feature_set, job.clip.id
                lock = self._pipeline.store.claim(name, clip_id) if has_room else None
                if lock is None:
                    remaining.append(job)
                elif outcome := self._outcome_elsewhere(job):
                    self.done_elsewhere.append(outcome)
                    lock.release()
                else:
                    self.claimed[index, name] = job, lock
                    feature_sets.append(name)
            if remaining:
                self.remaining.append(tuple(remaining))
            if feature_sets:
                yield ReadTask(index, jobs[0].source, tuple(feature_sets))
                index += 1

    def _outcome_elsewhere(self, job: ExtractionJob) -> Outcome | None:
        """The outcome of a job that another process has finished since the plan was made."""
        name, clip_id, store = job.feature_set, job.clip.id, self._pipeline.store
        state = clip_state(store, name, clip_id, job.source_digest, self._pipeline.decoder)
        if (state.commit, state.quarantine) == (job.state.commit, job.state.quarantine):
            return None  # as it was planned
        return final_outcome(state, name, clip_id)

    def release(self, index: int, feature_set: str) -> None:
        """Release the claim on a finished job."""
        _, lock = self.claimed.pop((index, feature_set))
        lock.release()

    def close(self) -> None:
        """Release the claims on all unfinished jobs."""
        for index, feature_set in list(self.claimed):
            self.release(index, feature_set)
