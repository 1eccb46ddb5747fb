"""The extraction pipeline: clips are claimed, read, encoded, and stored as they are finished."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain, islice

from features.canonical_json import JsonObject
from features.encoders.base import Encoder
from features.errors import MediaError
from features.extraction.batching import Encoded, Failed, encode_all
from features.extraction.claims import ClaimingPass
from features.extraction.outcome import Outcome
from features.extraction.plan import ClipJobs, ExtractionJob
from features.extraction.prefetch import QUEUE_PIECES
from features.extraction.stage_times import StageTimer
from features.extraction.throughput import Throughput, add_throughput, track_throughput
from features.freshness.media_digests import SourceDigests
from features.freshness.quarantine import TRANSIENT_CODES, delete_entry, write_entry
from features.media.decoder import Decoder
from features.media.decoder_version import DecoderVersion
from features.store.feature_store import FeatureStore
from features.system.locks import HeldLock

RETRY_CLAIMS_S = 0.1  # between passes over clips that others have claimed: a process may have died
WRITERS = 4  # publishing a record waits for 16 fsyncs, and a disk serves several at once
WRITES_AHEAD = 4  # records being written while the encoder goes on

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ExtractionPipeline:
    """Turns the clips that feature sets lack into records; mappings are by feature set."""

    encoders: Mapping[str, Encoder]
    batch_sizes: Mapping[str, int]
    store: FeatureStore
    digests: SourceDigests
    decoder: DecoderVersion
    provenances: Mapping[str, JsonObject]
    device_type: str
    """The device whose throughput is recorded."""
    should_continue: Callable[[], bool]
    """Asked before each clip."""
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
            claims = ClaimingPass(self.store, remaining, self.decoder, self.should_continue)
            with closing(self._run_pass(claims, decoders[: len(remaining)])) as outcomes:
                yield from outcomes
            remaining = claims.remaining
            if sum(len(jobs) for jobs in remaining) == n_jobs:
                time.sleep(RETRY_CLAIMS_S)
            elif remaining:
                log.info("%d clips are claimed by other processes", len(remaining))

    def _run_pass(
        self, claims: ClaimingPass, decoders: Sequence[Decoder]
    ) -> Generator[Outcome, None, None]:
        """Yield the outcomes of one pass over the unclaimed clips."""
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

    def _finish(self, claims: ClaimingPass, result: Encoded | Failed) -> Outcome:
        """Store or quarantine a clip and release its claim; runs on a writer thread."""
        key = (result.index, result.feature_set)
        with self.timer.measure("write"):
            if isinstance(result, Failed):
                outcome = self._quarantine(claims.started[key], result)
            else:
                outcome = self._publish(claims.started[key], result, claims.locks[key])
            claims.release(*key)
        return outcome

    def _log_throughput(self, done: Mapping[str, Throughput], wall_s: float) -> None:
        """Record the throughput; feature sets share the time in proportion to their encoding."""
        encode_s = sum(self.timer.encode_s[name] for name in done)
        for name, amount in done.items():
            if amount.rows and encode_s:
                seconds = wall_s * self.timer.encode_s[name] / encode_s
                measured = amount + Throughput(seconds=seconds)
                add_throughput(self.store.work, name, self.device_type, measured)

    def _publish(self, job: ExtractionJob, result: Encoded, lock: HeldLock) -> Outcome:
        """Store the track of a clip, unless its media has changed since the plan was made."""
        encoder, clip_id, track = self.encoders[job.feature_set], job.clip.id, result.track
        try:
            with self.digest_lock:
                digest = self.digests.of(job.source, encoder.modality)
        except MediaError as error:
            return Outcome(clip_id, job.feature_set, "failed", str(error), reason=job.reason)
        if digest != job.source_digest:
            detail = "its media changed while it was read; run the same again"
            return Outcome(clip_id, job.feature_set, "failed", detail, reason=job.reason)
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
            n_bytes=track.values.nbytes + track.time_s.nbytes + track.valid.nbytes,
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
