"""The state of every clip of a manifest in every feature set of a store."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from features.canonical_json import JsonObject
from features.freshness.clip_state import State, compare_media
from features.freshness.digest_cache import open_cache
from features.freshness.media_digests import SourceDigests
from features.freshness.quarantine import entries_of
from features.manifest.manifest import read_manifest
from features.media.decoder_version import decoder_version
from features.store.feature_store import FeatureStore

LISTED_AT_MOST = 20  # clips that the report for a person names


@dataclass(frozen=True, slots=True)
class ClipStatus:
    """The state of one clip in one feature set."""

    clip: str
    spec: str
    """Name of the feature set."""
    state: State
    reason: str
    n_bytes: int = 0
    """Size of the record's files; 0 if they cannot be counted."""


@dataclass(frozen=True, slots=True)
class Status:
    """The state of every clip of a manifest in every feature set of a store."""

    clips: tuple[ClipStatus, ...]
    unknown_kinds: dict[str, str] = field(default_factory=dict)
    """Kinds, by feature set, that this version does not know; such clips are not listed."""

    @property
    def counts(self) -> Counter[str]:
        """Number of clips in each state, over all feature sets."""
        return Counter(clip.state for clip in self.clips)

    @property
    def n_bytes(self) -> dict[str, int]:
        """Size of the records of these clips, by feature set."""
        sums = dict.fromkeys((clip.spec for clip in self.clips), 0)
        for clip in self.clips:
            sums[clip.spec] += clip.n_bytes
        return sums

    @property
    def is_complete(self) -> bool:
        """Whether extract-features with the same encoders would find nothing to do."""
        return bool(self.clips) and set(self.counts) == {"complete"}

    def as_json(self) -> JsonObject:
        """Return the status as `status --json` prints it."""
        return {
            "clips": [
                {"clip": c.clip, "spec": c.spec, "state": c.state, "reason": c.reason}
                for c in self.clips
            ],
            "counts": dict(self.counts),
            "bytes": self.n_bytes,
            "unknown_kinds": self.unknown_kinds,
        }


def status(store: str, manifest: Path) -> Status:
    """Compare the store's records with the media of the manifest, by digest.

    The arrays are not read: `verify` does that. Raises `InputError` if there is no store or no
    manifest.
    """
    clips, opened = read_manifest(manifest), FeatureStore.open(store)
    specs = opened.feature_sets()
    unknown_kinds = {name: spec.kind for name, spec in specs.items() if not spec.modality}
    states: list[ClipStatus] = []
    with open_cache(opened.work) as cache:
        decoder = decoder_version()
        with closing(SourceDigests(cache)) as digests:
            for name, spec in specs.items():
                quarantined = entries_of(opened.work, name)
                for clip in clips.clips if spec.modality else ():
                    if spec.modality == "faces" and (clip.frames or not clip.video):
                        continue  # nobody looks for faces in it
                    media = clips.source(clip)
                    each, _ = compare_media(
                        opened, spec, clip.id, media, digests, decoder, quarantined
                    )
                    states.append(ClipStatus(clip.id, name, each.state, each.reason, each.n_bytes))
    return Status(tuple(states), unknown_kinds)


def render_status(report: Status) -> Iterator[str]:
    """Yield the lines of the report for a person."""
    if not report.clips and not report.unknown_kinds:
        yield "the store has no feature set yet; run extract-features"
    for name, n_bytes in report.n_bytes.items():
        counts = Counter(clip.state for clip in report.clips if clip.spec == name)
        states = ", ".join(f"{n} {state}" for state, n in counts.items())
        yield f"{name}: {states}; {readable(n_bytes)}"
    for name, kind in report.unknown_kinds.items():
        yield (
            f"{name}: not compared: this vaflow does not know the kind {kind!r}; use the vaflow "
            "that wrote it"
        )
    outdated = [clip for clip in report.clips if clip.state != "complete"]
    for clip in outdated[:LISTED_AT_MOST]:
        yield f"  {clip.state}: {clip.clip} ({clip.spec}): {clip.reason}"
    if len(outdated) > LISTED_AT_MOST:
        yield f"  and {len(outdated) - LISTED_AT_MOST} more (--json lists all)"


def readable(n_bytes: int) -> str:
    """Return a number of bytes for a person, in powers of 1000."""
    size, unit = float(n_bytes), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{n_bytes} B" if unit == "B" else f"{size:.1f} {unit}"
