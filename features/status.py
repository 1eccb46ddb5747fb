"""What a store has of a manifest: clips by feature sets, each with a state and a reason."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from features.encoders import MODALITY
from features.errors import MediaError, StoreError
from features.manifest import read_manifest
from features.records import JsonObject
from features.sources import SourceDigests
from features.store import FeatureStore

LISTED_AT_MOST = 20  # clips that the report for a person names


@dataclass(frozen=True, slots=True)
class ClipStatus:
    """One clip in one feature set."""

    clip: str
    spec: str
    state: str
    """complete, missing, stale or corrupt."""
    reason: str


@dataclass(frozen=True, slots=True)
class Status:
    """Every clip of a manifest in every feature set of a store."""

    clips: tuple[ClipStatus, ...]

    @property
    def counts(self) -> Counter[str]:
        """Clips by state, over all feature sets."""
        return Counter(clip.state for clip in self.clips)

    @property
    def is_complete(self) -> bool:
        """Whether a run of extract-features with the same encoders would find nothing to do."""
        return bool(self.clips) and set(self.counts) == {"complete"}

    def as_json(self) -> JsonObject:
        """The status as `status --json` prints it."""
        return {"clips": [asdict(clip) for clip in self.clips], "counts": dict(self.counts)}


def status(store: str, manifest: Path) -> Status:
    """How the store's records stand to the media of the manifest, by content."""
    clips, opened, digests = read_manifest(manifest), FeatureStore.open(store), SourceDigests()
    found: list[ClipStatus] = []
    for name, spec in opened.feature_sets().items():
        if spec.kind not in MODALITY:
            raise StoreError(
                f"{store} holds {name}, whose kind {spec.kind!r} this vaflow does not know; "
                "use the vaflow that wrote it"
            )
        for clip in clips.clips:
            try:
                digest = digests.of(clips.source(clip), MODALITY[spec.kind])
            except MediaError as error:
                found.append(ClipStatus(clip.id, name, *_unread(opened, name, clip.id, error)))
            else:
                found.append(ClipStatus(clip.id, name, *opened.state(name, clip.id, digest)))
    return Status(tuple(found))


def _unread(store: FeatureStore, set_name: str, clip_id: str, error: MediaError) -> tuple[str, str]:
    """State and reason of a clip whose media cannot be read: its features may be there still."""
    if store.commit(set_name, clip_id) is None:
        return "missing", str(error)
    return "stale", f"its features are there, but its media is not what they were made of: {error}"


def described(found: Status) -> Iterator[str]:
    """The status for a person, line by line."""
    if not found.clips:
        yield "the store has no feature set yet; run extract-features"
    for name in dict.fromkeys(clip.spec for clip in found.clips):
        counts = Counter(clip.state for clip in found.clips if clip.spec == name)
        yield f"{name}: {', '.join(f'{n} {state}' for state, n in counts.items())}"
    off = [clip for clip in found.clips if clip.state != "complete"]
    for clip in off[:LISTED_AT_MOST]:
        yield f"  {clip.state}: {clip.clip} ({clip.spec}): {clip.reason}"
    if len(off) > LISTED_AT_MOST:
        yield f"  and {len(off) - LISTED_AT_MOST} more (--json lists all)"
