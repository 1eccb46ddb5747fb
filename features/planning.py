"""What a feature set lacks of a manifest, and why: decided before anything is decoded."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from features.allocation import uncollected
from features.encoders import AnyEncoderConfig
from features.errors import MediaError
from features.glance import State, judged
from features.manifest import Manifest
from features.outcomes import Outcome, Reason
from features.quarantine import Extractor, Quarantined, quarantined_in, read_quarantine, stands
from features.records import Clip, JsonObject, Source
from features.selection import in_quarantine
from features.sources import SourceDigests
from features.spec import FeatureSpec
from features.store import FeatureStore


@dataclass(frozen=True, slots=True)
class Found:
    """What is there of a clip in a feature set."""

    state: State
    why: str
    commit: str | None
    """Digest of the commit, where there is one."""
    quarantined: Quarantined | None
    """What forbids to try the clip, where it is not complete."""


@dataclass(frozen=True, slots=True)
class Job:
    """One clip that a feature set lacks."""

    feature_set: str
    clips: Manifest
    """Of which it is one."""
    clip: Clip
    reason: Reason
    source_digest: JsonObject
    found: Found
    """What was there when this was decided."""

    @property
    def source(self) -> Source:
        """Where its media lies: made when asked for, for the paths of a million are half a GB."""
        return self.clips.source(self.clip)


Jobs = tuple[Job, ...]  # of one clip, one for each feature set that lacks it


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done for one feature set."""

    config: AnyEncoderConfig
    spec: FeatureSpec
    jobs: tuple[Job, ...]
    settled: tuple[Outcome, ...]
    """How the other clips end, without being tried."""


@uncollected()
def plan_all(
    clips: Manifest,
    encoders: Sequence[tuple[AnyEncoderConfig, FeatureSpec]],
    store: FeatureStore,
    digests: SourceDigests,
    tool: Extractor,
    *,
    force: bool = False,
    failed: bool = False,
) -> list[Plan]:
    """What each feature set lacks of the clips; `tool` is what would decode them.

    With `force` clips that are whole are not left out. With `failed` only clips that one of the
    sets has in quarantine are looked at, and those are not left out.
    """
    if failed:
        clips = in_quarantine(clips, store.work, [spec.name for _, spec in encoders])
    return [
        plan(clips, config, spec, store, digests, tool, force=force, failed=failed)
        for config, spec in encoders
    ]


def plan(
    clips: Manifest,
    config: AnyEncoderConfig,
    spec: FeatureSpec,
    store: FeatureStore,
    digests: SourceDigests,
    tool: Extractor,
    *,
    force: bool,
    failed: bool,
) -> Plan:
    """What a feature set lacks of the clips, as `plan_all` tells."""
    name = spec.name  # a digest each time
    others, quarantined = store.sets_beside(spec), quarantined_in(store.work, name)
    jobs: list[Job] = []
    done: list[Outcome] = []
    for clip in clips.clips:
        try:
            digest = digests.of(clips.source(clip), config.modality)
        except MediaError as error:
            done.append(Outcome(clip.id, name, "failed", str(error)))
            continue
        found = find(store, name, clip.id, digest, tool, quarantined)
        outcome = None if force else settled(found, name, clip.id)
        if outcome and not (failed and outcome.state == "quarantined"):
            done.append(outcome)
        else:
            has_other = any(store.has_record(other, clip.id) for other in others)
            reason = _reason(found, has_other=has_other)
            jobs.append(Job(name, clips, clip, reason, digest, found))
    return Plan(config, spec, tuple(jobs), tuple(done))


def by_clip(plans: Sequence[Plan]) -> list[Jobs]:
    """What each clip lacks, clips in the order of the manifest."""
    jobs: dict[str, Jobs] = {}
    for each in plans:
        for job in each.jobs:
            jobs[job.clip.id] = (*jobs.get(job.clip.id, ()), job)
    return list(jobs.values())


def find(
    store: FeatureStore,
    set_name: str,
    clip_id: str,
    source: JsonObject,
    tool: Extractor,
    quarantined: Collection[str] | None = None,
) -> Found:
    """What is there now of a clip whose media has this digest.

    `quarantined` are the clips that have a record in quarantine; without it, one looks there.
    """
    seen = store.glance(set_name, clip_id)
    state, why = judged(seen, source)
    record = None
    if state != "complete" and (quarantined is None or clip_id in quarantined):
        record = read_quarantine(store.work, set_name, clip_id)
    standing = record if record and stands(record, source, tool) else None
    return Found(state, why, seen.commit.digest if seen.commit else None, standing)


def settled(found: Found, set_name: str, clip_id: str) -> Outcome | None:
    """How a clip ends of which this is there; None where it is to be extracted."""
    if found.state == "complete":
        return Outcome(clip_id, set_name, "present", note=found.why or None)
    if record := found.quarantined:
        again = "not tried again until its media or what decodes it changes, or with failed=true"
        return Outcome(clip_id, set_name, "quarantined", f"{record.words}; {again}")
    return None


def _reason(found: Found, *, has_other: bool) -> Reason:
    """Why a clip is extracted."""
    if found.state == "complete" or found.quarantined:
        return "forced"
    if found.state == "missing":
        return "spec changed" if has_other else "new"
    return "source changed" if found.state == "stale" else "corrupt"
