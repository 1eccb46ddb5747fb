"""What a feature set lacks of a manifest, and why: decided before anything is decoded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from features.canonical_json import JsonObject
from features.clip import Clip, Source
from features.encoders import AnyEncoderConfig
from features.errors import MediaError
from features.extraction.outcome import Outcome, Reason
from features.freshness.clip_state import ClipState, clip_state
from features.freshness.media_digests import SourceDigests
from features.freshness.quarantine import entries_of, read_entry
from features.manifest.manifest import Manifest
from features.media.decoder_version import DecoderVersion
from features.spec import FeatureSpec, Modality
from features.store.feature_store import FeatureStore
from features.system.memory import gc_paused


@dataclass(frozen=True, slots=True)
class ExtractionJob:
    """One clip that a feature set lacks."""

    feature_set: str
    clips: Manifest
    """Of which it is one."""
    clip: Clip
    reason: Reason
    source_digest: JsonObject
    found: ClipState
    """What was there when this was decided."""

    @property
    def source(self) -> Source:
        """Where its media lies: made when asked for, for the paths of a million are half a GB."""
        return self.clips.source(self.clip)


ClipJobs = tuple[ExtractionJob, ...]  # of one clip, one for each feature set that lacks it


@dataclass(frozen=True, slots=True)
class SetPlan:
    """What is to be done for one feature set."""

    config: AnyEncoderConfig
    spec: FeatureSpec
    jobs: tuple[ExtractionJob, ...]
    settled: tuple[Outcome, ...]
    """How the other clips end, without being tried."""


@gc_paused()
def plan_all(
    clips: Manifest,
    encoders: Sequence[tuple[AnyEncoderConfig, FeatureSpec]],
    store: FeatureStore,
    digests: SourceDigests,
    tool: DecoderVersion,
    *,
    force: bool = False,
    failed: bool = False,
) -> list[SetPlan]:
    """What each feature set lacks of the clips; `tool` is what would decode them.

    With `force` clips that are whole are not left out. With `failed` only clips that one of the
    sets has in quarantine are looked at, and those are not left out.
    """
    if failed:
        clips = select_quarantined(clips, store.work, [spec.name for _, spec in encoders])
    sets = [_FeatureSet(config, spec, store, tool) for config, spec in encoders]
    for clip in clips.clips:
        digest_of = partial(digests.of, clips.source(clip), known={})
        for each in sets:
            each.take(clips, clip, digest_of, force, failed)
    return [SetPlan(each.config, each.spec, tuple(each.jobs), tuple(each.settled)) for each in sets]


def select_quarantined(clips: Manifest, work: Path, set_names: Sequence[str]) -> Manifest:
    """The clips of a manifest that at least one of the feature sets has in quarantine."""
    found = (
        clip for clip in clips.clips if any(read_entry(work, name, clip.id) for name in set_names)
    )
    return replace(clips, clips=tuple(found))


class _FeatureSet:
    """What one feature set lacks of the clips that it was shown."""

    def __init__(
        self, config: AnyEncoderConfig, spec: FeatureSpec, store: FeatureStore, tool: DecoderVersion
    ) -> None:
        self.config, self.spec = config, spec
        self.jobs: list[ExtractionJob] = []
        self.settled: list[Outcome] = []
        self._store, self._tool, self._name = store, tool, spec.name  # a digest each time
        self._others = store.sets_beside(spec)
        self._quarantined = entries_of(store.work, spec.name)

    def take(
        self,
        clips: Manifest,
        clip: Clip,
        digest_of: Callable[[Modality], JsonObject],
        force: bool,
        failed: bool,
    ) -> None:
        """Decide on one clip."""
        name, store = self._name, self._store
        try:
            digest = digest_of(self.config.modality)
        except MediaError as error:
            self.settled.append(Outcome(clip.id, name, "failed", str(error)))
            return
        found = clip_state(store, name, clip.id, digest, self._tool, self._quarantined)
        outcome = None if force else final_outcome(found, name, clip.id)
        if outcome and not (failed and outcome.state == "quarantined"):
            self.settled.append(outcome)
        else:
            has_other = any(store.has_record(other, clip.id) for other in self._others)
            reason = _reason(found, has_other=has_other)
            self.jobs.append(ExtractionJob(name, clips, clip, reason, digest, found))


def jobs_by_clip(plans: Sequence[SetPlan]) -> list[ClipJobs]:
    """What each clip lacks, clips in the order of the manifest."""
    jobs: dict[str, ClipJobs] = {}
    for each in plans:
        for job in each.jobs:
            jobs[job.clip.id] = (*jobs.get(job.clip.id, ()), job)
    return list(jobs.values())


def final_outcome(found: ClipState, set_name: str, clip_id: str) -> Outcome | None:
    """How a clip ends of which this is there; None where it is to be extracted."""
    if found.state == "complete":
        return Outcome(clip_id, set_name, "present", note=found.reason or None)
    if found.quarantine:
        again = "not tried again until its media or what decodes it changes, or with failed=true"
        return Outcome(clip_id, set_name, "quarantined", f"{found.quarantine.message}; {again}")
    return None


def _reason(found: ClipState, *, has_other: bool) -> Reason:
    """Why a clip is extracted."""
    if found.state in ("complete", "quarantined"):
        return "forced"
    if found.state == "missing":
        return "spec changed" if has_other else "new"
    return "source changed" if found.state == "stale" else "corrupt"
