"""The line that clips go through: claimed, read, encoded, and stored, each as it comes."""

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
from features.extraction.throughput import Throughput, add_throughput, of_track
from features.freshness.media_digests import SourceDigests
from features.freshness.quarantine import TRANSIENT_CODES, delete_entry, write_entry
from features.media.decoder import Decoder
from features.media.decoder_version import DecoderVersion
from features.store.feature_store import FeatureStore
from features.system.locks import HeldLock

RETRY_CLAIMS_S = 0.1  # at clips that others have claimed: the holder may have died
WRITERS = 4  # a record waits for the disk sixteen times, and the disk takes several at once
WRITES_AHEAD = 4  # records on their way to the disk while the encoder goes on

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ExtractionPipeline:
    """From the clips that feature sets lack to their records; dicts are by feature set."""

    encoders: Mapping[str, Encoder]
    batch_sizes: Mapping[str, int]
    store: FeatureStore
    digests: SourceDigests
    tool: DecoderVersion
    """What decodes."""
    made_by: Mapping[str, JsonObject]
    kind_of_device: str
    """Under which its pace is remembered."""
    on_next: Callable[[], bool]
    """Asked before each clip: whether to begin another."""
    meter: StageTimer = field(default_factory=lambda: StageTimer(QUEUE_PIECES))
    hashing: threading.Lock = field(default_factory=threading.Lock)
    """Held by the one writer that asks for digests."""

    def run(
        self, clips: Sequence[ClipJobs], decoders: Sequence[Decoder]
    ) -> Generator[Outcome, None, None]:
        """Each clip as it ends; those that other processes work on come last."""
        left = list(clips)
        while left and self.on_next():
            n_left = sum(len(jobs) for jobs in left)
            turn = ClaimingPass(self.store, left, self.tool, self.on_next)
            with closing(self._run(turn, decoders[: len(left)])) as ends:
                yield from ends
            left = turn.left
            if sum(len(jobs) for jobs in left) == n_left:
                time.sleep(RETRY_CLAIMS_S)
            elif left:
                log.info("%d clips are left, which other processes work on", len(left))

    def _run(
        self, turn: ClaimingPass, decoders: Sequence[Decoder]
    ) -> Generator[Outcome, None, None]:
        """One pass over the clips that nobody has claimed."""
        began = time.monotonic()
        done: dict[str, Throughput] = {}
        tasks = turn.tasks()
        first = list(islice(tasks, 1))
        if not first:  # no reader is started to find that
            yield from turn.settled
            return
        results = encode_all(
            self.encoders,
            chain(first, tasks),
            batch_sizes=self.batch_sizes,
            decoders=decoders,
            meter=self.meter,
        )
        with closing(turn), ThreadPoolExecutor(WRITERS, "writer") as writer, closing(results):
            writing: deque[Future[Outcome]] = deque()
            for result in results:
                if isinstance(result, Encoded):
                    so_far = done.get(result.feature_set, Throughput())
                    done[result.feature_set] = so_far + of_track(result.track)
                writing.append(writer.submit(self._settle, turn, result))
                while writing and (len(writing) > WRITES_AHEAD or writing[0].done()):
                    yield writing.popleft().result()
            for future in writing:
                yield future.result()
            yield from turn.settled
        self._remember(done, time.monotonic() - began)

    def _settle(self, turn: ClaimingPass, result: Encoded | Failed) -> Outcome:
        """Store what came of a clip, and let go of it; on a writer's thread."""
        place = (result.index, result.feature_set)
        with self.meter.at("write"):
            if isinstance(result, Failed):
                outcome = self._refuse(turn.begun[place], result)
            else:
                outcome = self._keep(turn.begun[place], result, turn.held[place])
            turn.release(*place)
        return outcome

    def _remember(self, done: Mapping[str, Throughput], wall_s: float) -> None:
        """Note how fast it went; sets that were made together share the time as the encoder did."""
        busy_s = sum(self.meter.encode_s[name] for name in done)
        for name, so_far in done.items():
            if so_far.rows and busy_s:
                seconds = wall_s * self.meter.encode_s[name] / busy_s
                done_in = so_far + Throughput(seconds=seconds)
                add_throughput(self.store.work, name, self.kind_of_device, done_in)

    def _keep(self, job: ExtractionJob, result: Encoded, held: HeldLock) -> Outcome:
        """Store a clip that came through."""
        encoder, clip_id = self.encoders[job.feature_set], job.clip.id
        try:
            with self.hashing:
                now = self.digests.of(job.source, encoder.modality)
        except MediaError as error:
            return Outcome(clip_id, job.feature_set, "failed", str(error), reason=job.reason)
        if now != job.source_digest:
            why = "its media changed while it was read; run the same again"
            return Outcome(clip_id, job.feature_set, "failed", why, reason=job.reason)
        self.store.write(
            encoder.spec,
            clip_id,
            result.track,
            source=job.source_digest,
            provenance={**self.made_by[job.feature_set], "reason": job.reason},
            note=result.note,
            lock=held,
        )
        delete_entry(self.store.work, job.feature_set, clip_id)
        track = result.track
        return Outcome(
            clip_id,
            job.feature_set,
            "extracted",
            note=result.note,
            n_rows=len(track.time_s),
            reason=job.reason,
            n_bytes=track.values.nbytes + track.time_s.nbytes + track.valid.nbytes,
        )

    def _refuse(self, job: ExtractionJob, result: Failed) -> Outcome:
        """Remember a clip that cannot be decoded, unless it may come through as it is."""
        name, clip_id = job.feature_set, job.clip.id
        if result.code in TRANSIENT_CODES or job.found.state == "complete":
            return Outcome(clip_id, name, "failed", result.why, reason=job.reason)
        write_entry(
            self.store.work,
            name,
            clip_id,
            code=result.code,
            message=result.why,
            source=job.source_digest,
            decoder=self.tool,
        )
        return Outcome(clip_id, name, "quarantined", result.why, reason=job.reason)
