"""What a store has of a manifest: clips by feature sets, each with a state and a reason."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from features.canonical_json import JsonObject
from features.clip import Clip
from features.errors import MediaError, StoreError
from features.freshness.clip_state import record_state
from features.freshness.digest_cache import remembering
from features.freshness.media_digests import SourceDigests
from features.freshness.quarantine import entries_of, is_valid, read_entry
from features.manifest.manifest import Manifest, read_manifest
from features.media.decoder_version import decoder_version
from features.spec import MODALITY, FeatureSpec
from features.store.commit import RecordHeader
from features.store.feature_store import FeatureStore

LISTED_AT_MOST = 20  # clips that the report for a person names

State = Literal["complete", "missing", "stale", "corrupt", "quarantined"]


@dataclass(frozen=True, slots=True)
class ClipStatus:
    """One clip in one feature set."""

    clip: str
    spec: str
    state: State
    reason: str
    n_bytes: int = 0
    """Of the files of its record, as far as it can be counted."""


@dataclass(frozen=True, slots=True)
class Status:
    """Every clip of a manifest in every feature set of a store."""

    clips: tuple[ClipStatus, ...]

    @property
    def counts(self) -> Counter[str]:
        """Clips by state, over all feature sets."""
        return Counter(clip.state for clip in self.clips)

    @property
    def n_bytes(self) -> dict[str, int]:
        """Bytes of the records of these clips, by feature set."""
        sums = dict.fromkeys((clip.spec for clip in self.clips), 0)
        for clip in self.clips:
            sums[clip.spec] += clip.n_bytes
        return sums

    @property
    def is_complete(self) -> bool:
        """Whether a run of extract-features with the same encoders would find nothing to do."""
        return bool(self.clips) and set(self.counts) == {"complete"}

    def as_json(self) -> JsonObject:
        """The status as `status --json` prints it."""
        clips = [
            {"clip": c.clip, "spec": c.spec, "state": c.state, "reason": c.reason}
            for c in self.clips
        ]
        return {"clips": clips, "counts": dict(self.counts), "bytes": self.n_bytes}


def status(store: str, manifest: Path) -> Status:
    """How the store's records stand to the media of the manifest, by content.

    The arrays are not read: `verification` does that.
    """
    clips, opened = read_manifest(manifest), FeatureStore.open(store)
    found: list[ClipStatus] = []
    with remembering(opened.work) as memo:
        digests = SourceDigests(memo)
        for name, spec in opened.feature_sets().items():
            if spec.kind not in MODALITY:
                raise StoreError(
                    f"{store} holds {name}, whose kind {spec.kind!r} this vaflow does not know; "
                    "use the vaflow that wrote it"
                )
            found.extend(_of_set(opened, spec, clips, digests))
    return Status(tuple(found))


def _of_set(
    store: FeatureStore, spec: FeatureSpec, clips: Manifest, digests: SourceDigests
) -> Iterator[ClipStatus]:
    """The state of every clip in one feature set."""
    name = spec.name  # a digest each time
    quarantined = entries_of(store.work, name)
    for clip in clips.clips:
        seen = store.header(name, clip.id)
        try:
            digest = digests.of(clips.source(clip), MODALITY[spec.kind])
        except MediaError as error:
            state, why = unreadable_state(seen, error)
        else:
            state, why = record_state(seen, digest)
            if state != "complete" and clip.id in quarantined:
                state, why = _quarantined(store, spec, clip, digest) or (state, why)
        yield ClipStatus(clip.id, name, state, why, seen.n_bytes)


def _quarantined(
    store: FeatureStore, spec: FeatureSpec, clip: Clip, digest: JsonObject
) -> tuple[State, str] | None:
    """State and reason of a clip that would fail once more; None where it is worth a try."""
    record = read_entry(store.work, spec.name, clip.id)
    if record is None or not is_valid(record, digest, decoder_version()):
        return None
    return "quarantined", f"{record.code}: {record.words}"


def unreadable_state(seen: RecordHeader, error: MediaError) -> tuple[State, str]:
    """State and reason of a clip whose media cannot be read: its features may be there still."""
    if seen.fault:
        return "corrupt", seen.fault
    if seen.commit is None:
        return "missing", str(error)
    return "stale", f"its features are there, but its media is not what they were made of: {error}"


def render_status(found: Status) -> Iterator[str]:
    """The status for a person, line by line."""
    if not found.clips:
        yield "the store has no feature set yet; run extract-features"
    for name, n_bytes in found.n_bytes.items():
        counts = Counter(clip.state for clip in found.clips if clip.spec == name)
        states = ", ".join(f"{n} {state}" for state, n in counts.items())
        yield f"{name}: {states}; {readable(n_bytes)}"
    off = [clip for clip in found.clips if clip.state != "complete"]
    for clip in off[:LISTED_AT_MOST]:
        yield f"  {clip.state}: {clip.clip} ({clip.spec}): {clip.reason}"
    if len(off) > LISTED_AT_MOST:
        yield f"  and {len(off) - LISTED_AT_MOST} more (--json lists all)"


def readable(n_bytes: int) -> str:
    """A number of bytes for a person, in powers of 1000."""
    size, unit = float(n_bytes), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{n_bytes} B" if unit == "B" else f"{size:.1f} {unit}"
