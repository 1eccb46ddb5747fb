"""What an extraction has to do: the clips that each feature set lacks, and why it lacks them."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from features.canonical_json import JsonObject
from features.clip import Clip, Source, Track
from features.encoders.faces import FacesConfig
from features.encoders.visual import VisualConfig
from features.errors import InputError, MediaError, StoreError
from features.extraction.options import AnySetConfig, ExtractionOptions
from features.extraction.outcome import Outcome, Reason
from features.freshness.clip_state import ClipState, clip_state
from features.freshness.digest_cache import DigestCache, open_cache
from features.freshness.media_digests import SourceDigests
from features.freshness.quarantine import entries_of, read_entry
from features.manifest.manifest import Manifest
from features.media.decoder_version import DecoderVersion, decoder_version
from features.spec import FeatureSpec
from features.store.feature_store import FeatureStore
from features.system.files import check_writable
from features.system.memory import gc_paused


@dataclass(frozen=True, slots=True)
class ExtractionJob:
    """A clip that a feature set lacks."""

    feature_set: str
    clips: Manifest
    """The manifest of the clip."""
    clip: Clip
    reason: Reason
    source_digest: JsonObject
    state: ClipState
    """The state of the clip when the plan was made."""
    store: FeatureStore

    @property
    def source(self) -> Source:
        """The media of the clip; not stored, because the paths of a million take half a GB."""
        return source_with_faces(self.clips, self.clip, self.store)


ClipJobs = tuple[ExtractionJob, ...]
"""The jobs of one clip, one for each feature set that lacks it."""


@dataclass(frozen=True, slots=True)
class SetPlan:
    """What is to be done for one feature set."""

    config: AnySetConfig
    spec: FeatureSpec
    jobs: tuple[ExtractionJob, ...]
    outcomes: tuple[Outcome, ...]
    """The outcomes of the other clips, which need no work."""


@dataclass(frozen=True, slots=True)
class PlannedExtraction:
    """What is to be done for every feature set."""

    clips: Manifest
    options: ExtractionOptions
    store: FeatureStore
    decoder: DecoderVersion
    sets: tuple[SetPlan, ...]
    digests: DigestCache
    """The media digests that a store without a work folder could not save."""

    @property
    def outcomes(self) -> list[Outcome]:
        """The outcomes of clips that need no work."""
        return [outcome for each in self.sets for outcome in each.outcomes]

    @property
    def n_outcomes(self) -> int:
        """The number of outcomes that the extraction ends with."""
        return sum(len(each.outcomes) + len(each.jobs) for each in self.sets)

    def jobs_by_clip(self) -> list[ClipJobs]:
        """The jobs of each clip, clips in the order of the manifest."""
        jobs: dict[str, ClipJobs] = {}
        for each in self.sets:
            for job in each.jobs:
                jobs[job.clip.id] = (*jobs.get(job.clip.id, ()), job)
        return list(jobs.values())


@gc_paused()
def plan_extraction(
    clips: Manifest, options: ExtractionOptions, *, read_only: bool = False
) -> PlannedExtraction:
    """The clips that the store lacks; decodes nothing.

    Restores the attributes of feature sets that lost them and saves media digests, unless
    `read_only`. Raises `InputError` if `options.only` names a clip that the manifest lacks.
    """
    options = resolve_frames(clips, options)
    if options.crops:
        check_crops(options.crops, options)
    clips = clips.select(options.only)
    store, decoder = FeatureStore.open_or_plan(options.store), decoder_version(options.limits)
    specs = [(config, config.spec()) for config in with_faces(options.encoders)]
    if not read_only:
        for _, spec in specs:
            store.restore_spec(spec)
    if options.failed:
        quarantined = tuple(
            clip
            for clip in clips.clips
            if any(read_entry(store.work, spec.name, clip.id) for _, spec in specs)
        )
        clips = replace(clips, clips=quarantined)
    with (
        open_cache(store.work, read_only=read_only) as cache,
        closing(SourceDigests(cache, options.limits)) as digests,
    ):
        common = options, store, decoder, digests
        planners = [_SetPlanner(config, spec, *common) for config, spec in specs]
        for clip in clips.clips:
            source, known = clips.source(clip), {}
            for planner in planners:
                if planner.config.modality != "faces" or needs_faces(clip):
                    planner.add(clips, clip, source, known)
    sets = tuple(SetPlan(p.config, p.spec, tuple(p.jobs), tuple(p.outcomes)) for p in planners)
    return PlannedExtraction(clips, options, store, decoder, sets, cache)


def source_with_faces(clips: Manifest, clip: Clip, store: FeatureStore) -> Source:
    """The media of a clip, with a way to read its faces from a store."""
    return replace(clips.source(clip), read_faces=partial(_read_faces, store, clip.id))


def needs_faces(clip: Clip) -> bool:
    """Whether a clip has a video, and no crops of the face in it."""
    return clip.video is not None and clip.frames is None


def resolve_frames(clips: Manifest, options: ExtractionOptions) -> ExtractionOptions:
    """The options with faces in the configs of visual encoders, if a clip needs them.

    All clips of a manifest are then in one feature set, those with crops too. `frames` is "whole"
    in the result: shards of a manifest are planned with the same encoders.
    """
    encoders = options.encoders
    if options.frames == "faces" and any(needs_faces(clip) for clip in clips.clips):
        encoders = tuple(
            config.model_copy(update={"faces": FacesConfig()})
            if isinstance(config, VisualConfig) and config.faces is None
            else config
            for config in encoders
        )
    return replace(options, encoders=encoders, frames="whole")


def with_faces(encoders: Sequence[AnySetConfig]) -> list[AnySetConfig]:
    """The searches for faces that encoders build on, and then the encoders."""
    faces = [
        config.faces for config in encoders if isinstance(config, VisualConfig) and config.faces
    ]
    return list(dict.fromkeys([*faces, *encoders]))


def check_crops(folder: Path, options: ExtractionOptions) -> FacesConfig:
    """How the faces are cut out that are written to `folder`; `InputError` if that is not clear."""
    encoders = (config for config in options.encoders if isinstance(config, VisualConfig))
    found = list(dict.fromkeys(config.faces for config in encoders if config.faces))
    if len(found) != 1:
        raise InputError(
            f"crops = {folder}: "
            + (
                f"the encoders cut faces out in {len(found)} ways; give one of them alone"
                if found
                else "no faces are cut out: every clip has crops, or frames=whole, or there is no "
                "visual encoder; leave crops out"
            )
        )
    check_writable(folder, "crops")
    return found[0]


def _read_faces(store: FeatureStore, clip_id: str, set_name: str) -> Track:
    try:
        return store.read(set_name, clip_id)
    except StoreError as error:
        raise MediaError(f"no faces to encode: {error}", "faces") from None


@dataclass
class _SetPlanner:
    config: AnySetConfig
    spec: FeatureSpec
    options: ExtractionOptions
    store: FeatureStore
    decoder: DecoderVersion
    digests: SourceDigests
    jobs: list[ExtractionJob] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.others = self.store.sets_beside(self.spec)
        self.quarantined = entries_of(self.store.work, self.spec.name)

    def add(self, clips: Manifest, clip: Clip, source: Source, known: dict[str, str]) -> None:
        """Add a job for the clip, or its outcome if it needs no work.

        `known` has the digests of the clip's files that were looked up for other sets.
        """
        name, modality = self.spec.name, self.config.modality
        try:
            digest = self.digests.of(source, modality, known)
        except MediaError as error:
            self.outcomes.append(Outcome(clip.id, name, "failed", str(error)))
            return
        changes = partial(self.digests.changes, source, modality)
        state = clip_state(
            self.store, name, clip.id, digest, self.decoder, self.quarantined, changes
        )
        outcome = None if self.options.force else final_outcome(state, name, clip.id)
        if outcome and not (self.options.failed and outcome.state == "quarantined"):
            self.outcomes.append(outcome)
        else:
            has_other = any(self.store.has_record(other, clip.id) for other in self.others)
            reason = _reason(state, has_other=has_other)
            self.jobs.append(ExtractionJob(name, clips, clip, reason, digest, state, self.store))


def final_outcome(state: ClipState, set_name: str, clip_id: str) -> Outcome | None:
    """The outcome of a clip that needs no work; None if it is to be extracted."""
    if state.state == "complete":
        return Outcome(clip_id, set_name, "present", note=state.reason or None)
    if entry := state.quarantine:
        again = "not tried again until its media or what decodes it changes, or with failed=true"
        return Outcome(clip_id, set_name, "quarantined", f"{entry.message}; {again}")
    return None


def _reason(state: ClipState, *, has_other: bool) -> Reason:
    if state.state in ("complete", "quarantined"):
        return "forced"
    if state.state == "missing":
        return "spec changed" if has_other else "new"
    if state.state == "corrupt":
        return "corrupt"
    return "source changed" if state.reason.startswith("source changed") else "decoder changed"
