"""Extraction in shards: groups of clips that any process may extract.

The report of a shard may be lost with its process, so the outcome of each clip is read from the
store.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import cycle
from math import ceil

from features.clip import Source
from features.errors import MediaError
from features.extraction.extract import ExtractionRun, extract_clips
from features.extraction.options import ExtractionOptions
from features.extraction.outcome import ExtractionResult, Outcome
from features.extraction.plan import ExtractionJob, PlannedExtraction
from features.extraction.runtime import Runtime
from features.freshness.clip_state import clip_state
from features.freshness.digest_cache import open_cache
from features.manifest.manifest import Manifest
from features.media.crops import crop_files
from features.system.devices import DeviceName
from features.system.memory import gc_paused

MIN_CLIPS, MAX_CLIPS = 16, 64  # clips of a shard
MAX_SHARDS = 400  # of an extraction: above 25,600 clips, shards grow
SHARDS_PER_WORKER = 4  # if there are enough clips: short shards let workers end together


@dataclass(frozen=True, slots=True)
class Shard:
    """Some clips of an extraction."""

    number: int
    """Counted from 1."""
    n_shards: int
    clips: Manifest
    options: ExtractionOptions

    def extract(
        self,
        runtime: Runtime,
        on_outcome: Callable[[Outcome], None],
        should_continue: Callable[[], bool] = lambda: True,
    ) -> ExtractionResult:
        """Extract the clips as `extract_clips` does; nothing is planned after a stop."""
        if not should_continue():
            return ExtractionResult((), 0.0)
        return extract_clips(
            self.clips,
            self.options,
            runtime,
            lambda outcome, _: on_outcome(outcome),
            should_continue,
        )


@cache
def runtime_of_this_process(device: DeviceName) -> Runtime:
    """The runtime that all shards of a worker process share; it is never closed."""
    return Runtime(device)


@gc_paused()
def plan_shards(plan: PlannedExtraction, n_workers: int) -> tuple[Shard, ...]:
    """Deal the clips that need work into shards for a number of workers.

    Creates the store and saves the media digests of the plan, which the workers then share.
    """
    jobs = plan.jobs_by_clip()
    if not jobs:
        return ()
    plan.store.create()
    with open_cache(plan.store.work) as cache:
        cache.merge(plan.digests)
    dealt = deal_shards([media_bytes(each[0].source) for each in jobs], n_workers)
    options = replace(plan.options, only=())
    return tuple(
        Shard(
            number,
            len(dealt),
            replace(plan.clips, clips=tuple(jobs[index][0].clip for index in indices)),
            options,
        )
        for number, indices in enumerate(dealt, 1)
    )


def deal_shards(weights: Sequence[int], n_workers: int) -> list[list[int]]:
    """Indices of the weights in shards of similar size and weight, each in order.

    The weights are dealt from the heaviest to the lightest, to the shards in turn, first to last
    and then last to first.
    """
    if not weights:
        return []
    n_shards = ceil(len(weights) / MAX_CLIPS)
    if n_workers > 1:
        n_shards = max(n_shards, min(SHARDS_PER_WORKER * n_workers, len(weights) // MIN_CLIPS))
    n_shards = min(MAX_SHARDS, n_shards)
    shards: list[list[int]] = [[] for _ in range(n_shards)]
    turns = cycle([*shards, *reversed(shards)])
    for index in sorted(range(len(weights)), key=lambda index: -weights[index]):
        next(turns).append(index)
    return [sorted(shard) for shard in shards]


def media_bytes(source: Source) -> int:
    """Size of a clip's media in bytes: an estimate of its duration that opens no file.

    0 if the media is missing; the extraction reports that.
    """
    try:
        if container := source.video or source.audio:
            return container.stat().st_size
        crops = crop_files(source.frames).values() if source.frames else ()
        return sum(path.stat().st_size for path in crops)
    except (OSError, MediaError):
        return 0


class ShardStream:
    """The shards of an extraction, run by this process as one pipeline.

    The pipeline starts the clips of a shard while the shard before it ends.
    """

    def __init__(
        self, plan: PlannedExtraction, shards: Sequence[Shard], should_continue: Callable[[], bool]
    ) -> None:
        jobs = {each[0].clip.id: each for each in plan.jobs_by_clip()}
        self._shard_of = {clip.id: shard.number for shard in shards for clip in shard.clips.clips}
        self._n_remaining = {
            shard.number: sum(len(jobs[clip.id]) for clip in shard.clips.clips) for shard in shards
        }
        self._pending: defaultdict[int, list[Outcome]] = defaultdict(list)
        """Outcomes of other shards, by the number of the shard."""
        self._runtime = Runtime(plan.options.device)
        in_order = [jobs[clip_id] for clip_id in self._shard_of]
        self._run = ExtractionRun(plan, in_order, self._runtime, should_continue)
        self._outcomes = self._run.outcomes()

    def extract(self, number: int, on_outcome: Callable[[Outcome], None]) -> ExtractionResult:
        """The result of a shard; shards are extracted in order.

        The speed of the whole run is part of the result of the shard that completes it.
        """
        started_s = time.monotonic()
        outcomes: list[Outcome] = []
        for outcome in self._next_outcomes(number):
            outcomes.append(outcome)
            on_outcome(outcome)
        pass_s, remarks = self._run.pass_s, self._run.remarks
        self._run.pass_s, self._run.remarks = 0.0, ()  # reported once
        return ExtractionResult(tuple(outcomes), time.monotonic() - started_s, pass_s, remarks)

    def _next_outcomes(self, number: int) -> Iterable[Outcome]:
        """Yield the outcomes of a shard until all are known; exhausts a complete run."""
        yield from self._pending.pop(number, [])
        while self._n_remaining[number] or not any(self._n_remaining.values()):
            outcome = next(self._outcomes, None)
            if outcome is None:
                return
            shard = self._shard_of[outcome.clip]
            self._n_remaining[shard] -= 1
            if shard == number:
                yield outcome
            else:
                self._pending[shard].append(outcome)

    def close(self) -> None:
        """Stop the extraction and release the device."""
        try:
            self._outcomes.close()
        finally:
            self._runtime.close()


def result_in_store(
    plan: PlannedExtraction, reported: Iterable[Outcome], lost: Sequence[str], seconds: float
) -> ExtractionResult:
    """How each clip ended, by what the store holds now.

    `reported` are the outcomes that shards returned; they add details, and override nothing that
    the store contradicts. `lost` says why shards were lost; clips that neither the store nor a
    report accounts for have failed for the first of these reasons, or because the run was stopped.
    """
    reason = (
        f"its shard was lost ({lost[0]})" if lost else "it was not started: the run was stopped"
    )
    reports = {(outcome.clip, outcome.feature_set): outcome for outcome in reported}
    outcomes: list[Outcome] = []
    for each in plan.sets:
        outcomes.extend(each.outcomes)
        for job in each.jobs:
            report = reports.get((job.clip.id, job.feature_set))
            outcomes.append(_outcome_in_store(plan, job, report, f"{reason}; run the same again"))
    return ExtractionResult(tuple(outcomes), seconds)


def _outcome_in_store(
    plan: PlannedExtraction, job: ExtractionJob, report: Outcome | None, lost: str
) -> Outcome:
    clip_id, name = job.clip.id, job.feature_set
    state = clip_state(plan.store, name, clip_id, job.source_digest, plan.decoder)
    if state.state == "complete" and report and report.state == "extracted":
        return report
    if state.state == "complete" and state.commit != job.state.commit:
        return Outcome(clip_id, name, "extracted", note=state.reason or None, reason=job.reason)
    if report and report.state in ("failed", "quarantined"):
        return report
    if state.quarantine and state.quarantine != job.state.quarantine:
        return Outcome(clip_id, name, "quarantined", state.quarantine.message, reason=job.reason)
    return Outcome(clip_id, name, "failed", lost, reason=job.reason)
