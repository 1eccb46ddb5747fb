"""Clips of one video, one for each person: its faces are searched once, and copied."""

from collections.abc import Sequence

from features.canonical_json import canonical
from features.extraction.outcome import Outcome
from features.extraction.plan import ClipJobs, ExtractionJob
from features.freshness.quarantine import delete_entry
from features.spec import FeatureSpec
from features.store.feature_store import FeatureStore


def split_by_video(
    clips: Sequence[ClipJobs],
) -> tuple[list[ClipJobs], list[tuple[ClipJobs, str]]]:
    """Return the jobs of the first clip of each video, and those of each other with its id."""
    first: dict[bytes, ClipJobs] = {}
    others: list[tuple[ClipJobs, str]] = []
    for jobs in clips:
        media = canonical([[job.feature_set, job.source_digest] for job in jobs])
        if first.setdefault(media, jobs) is not jobs:
            others.append((jobs, first[media][0].clip.id))
    return list(first.values()), others


def copy_faces(
    store: FeatureStore, spec: FeatureSpec, job: ExtractionJob, from_id: str
) -> Outcome | None:
    """Store the faces of another clip of the same media.

    Returns None if it has none, or if another process has claimed this clip.
    """
    commit = store.commit(spec.name, from_id)
    if commit is None or commit.source != job.source_digest:
        return None
    if (lock := store.claim(spec.name, job.clip.id)) is None:
        return None
    try:
        track = store.read(spec.name, from_id)
        store.write(
            spec,
            job.clip.id,
            track,
            source=commit.source,
            provenance={**commit.provenance, "reason": job.reason},
            note=commit.note,
            lock=lock,
        )
        delete_entry(store.work, spec.name, job.clip.id)
    finally:
        lock.release()
    return Outcome(
        job.clip.id,
        spec.name,
        "extracted",
        note=commit.note,
        n_rows=len(track.time_s),
        reason=job.reason,
        n_bytes=track.n_bytes,
    )
