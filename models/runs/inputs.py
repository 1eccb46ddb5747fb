"""The digests of a training's inputs."""

from features.canonical_json import canonical_sha256
from features.spec import FeatureSpec
from models.data.feature_sets import records_digest
from models.data.splits import ClipGroups, digest_of_labels, subject_by_clip
from models.heads import AnyHeadConfig
from models.regions.texts_file import read_texts
from models.runs.folder import Inputs, SetUsed


def digest_inputs(
    clips: ClipGroups, head: AnyHeadConfig, unlabelled: ClipGroups | None = None
) -> Inputs:
    """Return the digests of a training's inputs; raises `StoreError` if a record is missing."""
    groups = clips.clips | (unlabelled.clips if unlabelled else {})
    subjects = subject_by_clip(clips.all_clips)
    by_people = unlabelled is not None or head.chooses_by_people
    clip_ids = dict.fromkeys(clip.id for group in groups.values() for clip in group)

    def digest_set(spec: FeatureSpec) -> SetUsed:
        digest = records_digest(clips.sets, list(clip_ids), spec)
        return SetUsed(name=spec.name, digest=spec.digest, records_sha256=digest)

    texts = None
    if head.prompts:
        texts = canonical_sha256(read_texts(head.prompts.texts).model_dump(mode="json"))
    return Inputs(
        streams={name: digest_set(spec) for name, spec in clips.sets.specs.items()},
        clips={name: [clip.id for clip in group] for name, group in groups.items()},
        labels_sha256=digest_of_labels(clips.labels),
        texts_sha256=texts,
        subjects_sha256=canonical_sha256({**subjects}) if by_people else None,
    )
