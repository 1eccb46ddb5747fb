"""Stage one: what the store lacks of a manifest is decoded, encoded and stored.

Several processes may be at the same store: each claims a clip before decoding it, passes over
those that others have claimed, and looks at them again in the end. A clip that cannot be decoded
is an `Outcome`; the others go on.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Annotated

from pydantic import Field

from features.allocation import keep_freed_memory
from features.batch_size import fitting_batch
from features.claims import Turn
from features.decoder import Decoder, decoding, made_decoders
from features.devices import DeviceName, advice, torch_device
from features.digest_memo import remembering
from features.durable import Claim
from features.encoders import AnyEncoderConfig
from features.encoders.base import Encoder
from features.encoding import Encoded, Failed, encode_all
from features.errors import MediaError
from features.limits import GENEROUS, DecodeLimits
from features.manifest import read_manifest
from features.meter import Meter
from features.outcomes import Extraction, Outcome
from features.planning import Job, Jobs, Plan, by_clip, plan
from features.processes import n_cores
from features.provenance import provenance
from features.quarantine import PASSING, Extractor, extractor, put_in_quarantine, release
from features.read_ahead import QUEUE_PIECES
from features.records import JsonObject
from features.sources import SourceDigests
from features.store import FeatureStore
from features.throughput import Throughput, add_throughput, of_track

Count = Annotated[int, Field(ge=1)]

LOOK_AGAIN_S = 0.1  # at clips that others have claimed: the holder may have died
WRITERS = 4  # a record waits for the disk sixteen times, and the disk takes several at once
WRITES_AHEAD = 4  # records on their way to the disk while the encoder goes on

log = logging.getLogger(__name__)


def extract_features(
    manifest: Path,
    store: str,
    encoders: Sequence[AnyEncoderConfig],
    *,
    device: DeviceName = "auto",
    batch_size: Count | None = None,
    readers: Count | None = None,
    limits: DecodeLimits = GENEROUS,
    force: bool = False,
    on_outcome: Callable[[Outcome, int], None] | None = None,
) -> Extraction:
    """Bring the store up to the manifest; `on_outcome` hears of each clip, with the total.

    `batch_size` and `readers` are chosen by encoder, device and cores where they are not given.
    """
    began = time.monotonic()
    keep_freed_memory()
    clips = read_manifest(manifest)
    specs = [config.spec() for config in encoders]
    place = torch_device(device)
    target = FeatureStore.at(store)
    tool = extractor(limits)
    outcomes: list[Outcome] = []

    def settle(outcome: Outcome) -> None:
        outcomes.append(outcome)
        why = outcome.reason if outcome.state == "extracted" else outcome.detail
        if outcome.state != "present":
            log.info("%s (%s): %s: %s", outcome.clip, outcome.feature_set, outcome.state, why)
        if on_outcome:
            on_outcome(outcome, len(clips.clips) * len(encoders))

    for spec in specs:
        target.mend(spec)
    plans: list[Plan] = []
    with remembering(target.work) as memo:
        for config, spec in zip(encoders, specs, strict=True):
            plans.append(plan(clips, config, spec, target, SourceDigests(memo), tool, force=force))
            for outcome in plans[-1].settled:
                settle(outcome)
    lacking = [each for each in plans if each.jobs]
    if not lacking:
        return Extraction(tuple(outcomes), time.monotonic() - began)
    clips_left = by_clip(lacking)
    n_readers = min(readers or max(2, n_cores() // 2), len(clips_left))
    with decoding(n_readers, limits) as decoders:
        # all networks before the first clip: weights that do not fit should not show hours later
        built = {each.spec.name: each.config.build(place) for each in lacking}
        target.found()
        sizes = {name: batch_size or fitting_batch(encoder) for name, encoder in built.items()}
        made_by = {
            each.spec.name: {
                **provenance(),
                "encoder": each.config.model_dump(mode="json"),
                "device": str(place),
                "batch_size": sizes[each.spec.name],
            }
            for each in lacking
        }
        with remembering(target.work) as later:
            later.take_over(memo)  # a new store had no place for it
            line = Line(built, sizes, target, SourceDigests(later), tool, limits, made_by)
            with closing(line.run(clips_left, decoders)) as ends:
                for outcome in ends:
                    settle(outcome)
            pass_s = line.meter.wall_s
    exact = [each.config.kind for each in lacking if each.config.precision == "float32"]
    remarks = (line.meter.described(), *advice(exact, place))
    return Extraction(tuple(outcomes), time.monotonic() - began, pass_s, remarks)


@dataclass(frozen=True, slots=True)
class Line:
    """From the clips that feature sets lack to their records; dicts are by feature set."""

    encoders: Mapping[str, Encoder]
    batch_sizes: Mapping[str, int]
    store: FeatureStore
    digests: SourceDigests
    tool: Extractor
    """What decodes."""
    limits: DecodeLimits
    made_by: Mapping[str, JsonObject]
    meter: Meter = field(default_factory=lambda: Meter(QUEUE_PIECES))
    hashing: threading.Lock = field(default_factory=threading.Lock)
    """Held by the one writer that asks for digests."""

    def run(
        self, clips: Sequence[Jobs], decoders: Sequence[Decoder]
    ) -> Generator[Outcome, None, None]:
        """Each clip as it ends; those that other processes work on come last, with new decoders."""
        left, n_readers = list(clips), len(decoders)
        while left:
            n_left = sum(len(jobs) for jobs in left)
            turn = Turn(self.store, left, self.tool)
            with closing(self._run(turn, decoders)) as ends:
                yield from ends
            left = turn.left
            decoders = made_decoders(min(n_readers, len(left)), self.limits)
            if sum(len(jobs) for jobs in left) == n_left:
                time.sleep(LOOK_AGAIN_S)
            elif left:
                log.info("%d clips are left, which other processes work on", len(left))

    def _run(self, turn: Turn, decoders: Sequence[Decoder]) -> Generator[Outcome, None, None]:
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

    def _settle(self, turn: Turn, result: Encoded | Failed) -> Outcome:
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
                device = str(self.made_by[name]["device"])
                add_throughput(self.store.work, name, device, so_far + Throughput(seconds=seconds))

    def _keep(self, job: Job, result: Encoded, held: Claim) -> Outcome:
        """Store a clip that came through."""
        encoder, clip_id = self.encoders[job.feature_set], job.source.clip_id
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
            held=held,
        )
        release(self.store.work, job.feature_set, clip_id)
        n_rows = len(result.track.time_s)
        return Outcome(clip_id, job.feature_set, "extracted", "", result.note, n_rows, job.reason)

    def _refuse(self, job: Job, result: Failed) -> Outcome:
        """Remember a clip that cannot be decoded, unless it may come through as it is."""
        name, clip_id = job.feature_set, job.source.clip_id
        if result.code in PASSING or job.found.state == "complete":
            return Outcome(clip_id, name, "failed", result.why, reason=job.reason)
        put_in_quarantine(
            self.store.work,
            name,
            clip_id,
            code=result.code,
            words=result.why,
            source=job.source_digest,
            extractor=self.tool,
        )
        return Outcome(clip_id, name, "quarantined", result.why, reason=job.reason)
