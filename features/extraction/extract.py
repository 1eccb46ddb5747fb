"""Extraction in this process: clips that the store lacks are decoded, encoded and stored.

Several processes may extract into the same store: each claims a clip before decoding it, skips
clips that others have claimed, and returns to them at the end. A clip that cannot be decoded is an
`Outcome`, and the other clips go on.
"""

import logging
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path

from features.encoders.base import Encoder
from features.encoders.weights import NO_WEIGHTS
from features.extraction.batching import largest_batch
from features.extraction.face_crops import with_crops
from features.extraction.options import ExtractionOptions
from features.extraction.outcome import ClipRead, ExtractionResult, Outcome
from features.extraction.pipeline import ExtractionPipeline
from features.extraction.plan import ClipJobs, PlannedExtraction, plan_extraction
from features.extraction.runtime import Runtime
from features.extraction.shared_faces import copy_faces, split_by_video
from features.freshness.digest_cache import open_cache
from features.freshness.media_digests import SourceDigests
from features.manifest.manifest import Manifest, read_manifest
from features.media.decoder import Decoder
from features.media.decoder_version import DECODING
from features.system.devices import advice
from features.system.memory import keep_freed_memory
from features.system.provenance import provenance

log = logging.getLogger(__name__)

WHICH_FRAMES = (
    "videos without crops: faces are found, and the largest person's are encoded "
    "(frames=whole encodes whole frames)"
)


def extract_features(
    manifest: Path,
    options: ExtractionOptions,
    *,
    on_outcome: Callable[[Outcome, int], None] | None = None,
    should_continue: Callable[[], bool] = lambda: True,
) -> ExtractionResult:
    """Extract the clips of a manifest that the store lacks.

    `on_outcome` is called with each outcome and their total number. `should_continue` is asked
    before each clip; when it returns False, no other clip is started.
    """
    clips = read_manifest(manifest)
    with closing(Runtime(options.device)) as runtime:
        extraction = extract_clips(clips, options, runtime, on_outcome, should_continue)
    return with_crops(extraction, clips, options, should_continue)


def extract_clips(
    clips: Manifest,
    options: ExtractionOptions,
    runtime: Runtime,
    on_outcome: Callable[[Outcome, int], None] | None = None,
    should_continue: Callable[[], bool] = lambda: True,
    on_read: Callable[[ClipRead], None] | None = None,
) -> ExtractionResult:
    """Extract as `extract_features` does, with the encoders that a runtime may have loaded.

    Writes no crops. `on_read` is called as clips are read, by the threads that read them.
    """
    started_s = time.monotonic()
    plan = plan_extraction(clips, options)
    run = ExtractionRun(plan, plan.jobs_by_clip(), runtime, should_continue, on_read)
    outcomes: list[Outcome] = []
    with closing(run.outcomes()) as extracted:
        for outcome in chain(plan.outcomes, extracted):
            outcomes.append(outcome)
            if outcome.state != "present":
                _log_outcome(outcome)
            if on_outcome:
                on_outcome(outcome, plan.n_outcomes)
    seconds = time.monotonic() - started_s
    return ExtractionResult(tuple(outcomes), seconds, run.pass_s, run.remarks)


def _log_outcome(outcome: Outcome) -> None:
    detail = outcome.reason if outcome.state == "extracted" else outcome.detail
    fields = {"clip": outcome.clip, "feature_set": outcome.feature_set, "state": outcome.state}
    text = f"{outcome.clip} ({outcome.feature_set}): {outcome.state}: {detail}"
    log.info("%s", text, extra={**fields, "reason": outcome.reason, "n_rows": outcome.n_rows})


def in_stages(
    clips: Sequence[ClipJobs], encoders: Mapping[str, Encoder]
) -> Iterator[list[ClipJobs]]:
    """Yield the jobs that find faces, and then those of encoders, which may build on them."""
    for is_first in (True, False):
        jobs_of = (
            tuple(j for j in jobs if (encoders[j.feature_set].modality == "faces") is is_first)
            for jobs in clips
        )
        if stage := [jobs for jobs in jobs_of if jobs]:
            yield stage


class ExtractionRun:
    """Extracts planned clips with the encoders of a runtime.

    `pass_s` and `remarks` (see `ExtractionResult`) are set when `outcomes` is exhausted.
    """

    def __init__(
        self,
        plan: PlannedExtraction,
        clips: Sequence[ClipJobs],
        runtime: Runtime,
        should_continue: Callable[[], bool],
        on_read: Callable[[ClipRead], None] | None = None,
    ) -> None:
        self._plan, self._clips, self._runtime = plan, clips, runtime
        self._should_continue, self._on_read = should_continue, on_read
        self.pass_s = 0.0
        self.remarks: tuple[str, ...] = ()

    def outcomes(self) -> Generator[Outcome, None, None]:
        """Yield the outcome of each job as it ends; clips are started in the given order."""
        if not self._clips:
            return
        keep_freed_memory()
        store, options, runtime = self._plan.store, self._plan.options, self._runtime
        sets = [each for each in self._plan.sets if each.jobs]
        n_readers = min(options.n_readers, len(self._clips))
        with runtime.decoders(n_readers, options.limits) as decoders:
            # All encoders are built before the first clip: weights that do not fit fail at once.
            encoders = {each.spec.name: runtime.encoder(each.config) for each in sets}
            store.create()
            batch_sizes = {
                name: options.batch_size or largest_batch(encoder)
                for name, encoder in encoders.items()
            }
            provenances = {
                each.spec.name: {
                    **provenance(),
                    "decoding": DECODING,
                    "encoder": each.config.model_dump(mode="json"),
                    "device": str(runtime.device),
                    "batch_size": batch_sizes[each.spec.name],
                }
                for each in sets
            }
            with open_cache(store.work) as cache:
                cache.merge(self._plan.digests)
                pipeline = ExtractionPipeline(
                    store=store,
                    decoder=self._plan.decoder,
                    encoders=encoders,
                    batch_sizes=batch_sizes,
                    provenances=provenances,
                    digests=SourceDigests(cache),
                    should_continue=self._should_continue,
                    on_read=self._on_read,
                )
                for clips in in_stages(self._clips, encoders):
                    yield from self._stage(pipeline, clips, decoders)
        self.pass_s = pipeline.timer.wall_s
        exact = [
            each.config.kind
            for each in sets
            if each.config.precision == "float32"
            and each.config.modality != "faces"
            and each.spec.weights_sha256 != NO_WEIGHTS  # there is no network to be faster
        ]
        finds_faces = any(each.config.modality == "faces" for each in sets)
        self.remarks = (
            pipeline.timer.summary(),
            *((WHICH_FRAMES,) if finds_faces else ()),
            *advice(exact, runtime.device),
        )

    def _stage(
        self, pipeline: ExtractionPipeline, clips: Sequence[ClipJobs], decoders: Sequence[Decoder]
    ) -> Generator[Outcome, None, None]:
        """Yield the outcomes of one stage; faces are searched in the first clip of each video."""
        others: list[tuple[ClipJobs, str]] = []
        if pipeline.encoders[clips[0][0].feature_set].modality == "faces":
            clips, others = split_by_video(clips)
        with closing(pipeline.run(clips, decoders)) as outcomes:
            yield from outcomes
        left: list[ClipJobs] = []
        for jobs, from_id in others:
            if not self._should_continue():
                return
            copied = [
                copy_faces(pipeline.store, pipeline.encoders[job.feature_set].spec, job, from_id)
                for job in jobs
            ]
            yield from filter(None, copied)
            left.append(
                tuple(job for job, outcome in zip(jobs, copied, strict=True) if not outcome)
            )
        with closing(pipeline.run([jobs for jobs in left if jobs], decoders)) as outcomes:
            yield from outcomes
