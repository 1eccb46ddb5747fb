"""A run in parts: shards of clips that any process may take, and what came of all of them.

What a shard says of itself may be lost with its process; the store is asked in the end.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import cache
from itertools import cycle
from math import ceil
from pathlib import Path

from features.clip import Source
from features.errors import MediaError
from features.extraction.extract import Pace, extract_clips, extracting
from features.extraction.options import ExtractionOptions
from features.extraction.outcome import ExtractionResult, Outcome
from features.extraction.plan import ClipJobs, ExtractionJob, SetPlan, jobs_by_clip, plan_all
from features.extraction.runtime import Runtime
from features.freshness.clip_state import clip_state
from features.freshness.digest_cache import open_cache
from features.freshness.media_digests import SourceDigests
from features.manifest.manifest import Manifest, read_manifest
from features.media.crops import crop_files
from features.media.decoder_version import DecoderVersion, decoder_version
from features.store.feature_store import FeatureStore
from features.system.devices import DeviceName
from features.system.memory import gc_paused, keep_freed_memory

MIN_CLIPS, MAX_CLIPS = 16, 64  # clips of a shard
MAX_SHARDS = 400  # of a run: beyond 25,600 clips shards grow
SHARDS_PER_WORKER = 4  # where there are clips enough: the last ones to end should be short


@dataclass(frozen=True, slots=True)
class Shard:
    """Some clips of a run."""

    number: int
    """From 1."""
    n_shards: int
    clips: Manifest
    request: ExtractionOptions

    def extract(
        self,
        station: Runtime,
        on_outcome: Callable[[Outcome], None],
        on_next: Callable[[], bool] = lambda: True,
    ) -> ExtractionResult:
        """How each clip ended for each feature set, with the encoders of a station."""
        if not on_next():
            return ExtractionResult((), 0.0)
        asked = self.request
        return extract_clips(
            self.clips,
            asked.store,
            asked.encoders,
            station,
            batch_size=asked.batch_size,
            readers=asked.readers,
            limits=asked.limits,
            failed=asked.failed,
            force=asked.force,
            on_outcome=lambda outcome, _: on_outcome(outcome),
            on_next=on_next,
        )


@cache
def runtime_of_this_process(device: DeviceName) -> Runtime:
    """The one station of a process that shards come to, one after another: it is never closed."""
    return Runtime(device)


@dataclass(frozen=True, slots=True)
class PlannedExtraction:
    """A run that is planned."""

    store: FeatureStore
    tool: DecoderVersion
    plans: tuple[SetPlan, ...]
    shards: tuple[Shard, ...]
    """Of what the store lacks."""
    left: tuple[tuple[ClipJobs, ...], ...]
    """What the clips of each shard lack."""

    def outcomes(self, reported: Collection[Outcome], lost: str) -> tuple[Outcome, ...]:
        """How each clip ended for each feature set: what the store has, in its shard's words.

        `lost` says why where neither store nor shard does.
        """
        said = {(outcome.clip, outcome.feature_set): outcome for outcome in reported}
        return tuple(
            outcome
            for each in self.plans
            for outcome in (
                *each.settled,
                *(
                    self._outcome(job, said.get((job.clip.id, job.feature_set)), lost)
                    for job in each.jobs
                ),
            )
        )

    def _outcome(self, job: ExtractionJob, said: Outcome | None, lost: str) -> Outcome:
        """How a clip ended that the feature set lacked."""
        clip_id, name = job.clip.id, job.feature_set
        now = clip_state(self.store, name, clip_id, job.source_digest, self.tool)
        is_new = now.commit != job.found.commit or (said and said.state == "extracted")
        if now.state == "complete" and is_new:
            if said and said.state == "extracted":
                return said
            note = now.reason or None
            return Outcome(clip_id, name, "extracted", note=note, reason=job.reason)
        if said and said.state in ("failed", "quarantined"):
            return said
        if now.quarantine and now.quarantine != job.found.quarantine:
            return Outcome(clip_id, name, "quarantined", now.quarantine.message, reason=job.reason)
        return Outcome(clip_id, name, "failed", lost, reason=job.reason)


@gc_paused()
def plan_shards(
    manifest: Path, only: Sequence[str], request: ExtractionOptions, n_workers: int
) -> PlannedExtraction:
    """A run in shards that so many workers share."""
    clips = read_manifest(manifest).select(only)
    store, tool = FeatureStore.open_or_plan(request.store), decoder_version(request.limits)
    specs = [(config, config.spec()) for config in request.encoders]
    again = {"force": request.force, "failed": request.failed}
    for _, spec in specs:
        store.restore_spec(spec)
    with open_cache(store.work) as memo:
        plans = tuple(plan_all(clips, specs, store, SourceDigests(memo), tool, **again))
    left = jobs_by_clip(plans)
    if left:
        store.create()
        with open_cache(store.work) as later:  # a new store had no place for it
            later.merge(memo)
    by_id = {clip.id: clip for clip in clips.clips}
    dealt = deal_shards([media_bytes(jobs[0].source) for jobs in left], n_workers)
    shards = tuple(
        Shard(
            number,
            len(dealt),
            replace(clips, clips=tuple(by_id[left[place][0].clip.id] for place in places)),
            request,
        )
        for number, places in enumerate(dealt, 1)
    )
    jobs = tuple(tuple(left[place] for place in places) for places in dealt)
    return PlannedExtraction(store, tool, plans, shards, jobs)


def deal_shards(weights: Sequence[int], n_workers: int) -> list[list[int]]:
    """The places of the weights in shards of like number and like weight, each in order.

    The heaviest are dealt out one to each, then the next from the last shard back to the first,
    to and fro.
    """
    if not weights:
        return []
    wanted = min(SHARDS_PER_WORKER * n_workers, len(weights) // MIN_CLIPS) if n_workers > 1 else 1
    n_shards = min(MAX_SHARDS, max(wanted, ceil(len(weights) / MAX_CLIPS)))
    shards: list[list[int]] = [[] for _ in range(n_shards)]
    turns = cycle([*shards, *reversed(shards)])
    for place in sorted(range(len(weights)), key=lambda place: -weights[place]):
        next(turns).append(place)
    return [sorted(shard) for shard in shards]


def media_bytes(source: Source) -> int:
    """Bytes of a clip's media: what stands for its duration, which one would have to open it for.

    0 where there is none, which its shard will say.
    """
    try:
        if heard_or_seen := source.video or source.audio:
            return heard_or_seen.stat().st_size
        crops = crop_files(source.frames).values() if source.frames else ()
        return sum(path.stat().st_size for path in crops)
    except (OSError, MediaError):
        return 0


class ShardStream:
    """A run's shards, of which there are some, extracted by one process one after the other."""

    def __init__(self, run: PlannedExtraction, on_next: Callable[[], bool]) -> None:
        keep_freed_memory()
        asked = run.shards[0].request
        self._shard_of = {
            jobs[0].clip.id: shard.number
            for shard, left in zip(run.shards, run.left, strict=True)
            for jobs in left
        }
        self._n_left = {
            shard.number: sum(map(len, left))
            for shard, left in zip(run.shards, run.left, strict=True)
        }
        self._aside: defaultdict[int, list[Outcome]] = defaultdict(list)
        with ExitStack() as stack:
            station = stack.enter_context(closing(Runtime(asked.device)))
            memo = stack.enter_context(open_cache(run.store.work))
            passing = extracting(
                run.plans,
                [jobs for left in run.left for jobs in left],
                run.store,
                run.tool,
                station,
                memo,
                batch_size=asked.batch_size,
                readers=asked.readers,
                limits=asked.limits,
                on_next=on_next,
            )
            self._passing = stack.enter_context(closing(passing))
            self._open = stack.pop_all()

    def extract(self, number: int, on_outcome: Callable[[Outcome], None]) -> ExtractionResult:
        """How the clips of a shard ended; in order, and the last one tells how fast it went.

        What ends meanwhile of others is put aside for them.
        """
        began = time.monotonic()
        outcomes: list[Outcome] = []
        pace = Pace()

        def settle(outcome: Outcome) -> None:
            outcomes.append(outcome)
            on_outcome(outcome)

        for outcome in self._aside.pop(number, []):
            settle(outcome)
        while self._n_left[number] or not any(self._n_left.values()):
            try:
                outcome = next(self._passing)
            except StopIteration as end:
                pace = end.value or pace
                break
            its_shard = self._shard_of[outcome.clip]
            self._n_left[its_shard] -= 1
            if its_shard == number:
                settle(outcome)
            else:
                self._aside[its_shard].append(outcome)
        return ExtractionResult(
            tuple(outcomes), time.monotonic() - began, pace.seconds, pace.remarks
        )

    def close(self) -> None:
        """End what is under way, and let go of the device."""
        self._open.close()
