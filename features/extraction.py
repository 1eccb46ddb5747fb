"""Stage one: what the store lacks of a manifest is decoded, encoded and stored.

A clip that cannot be decoded is an `Outcome`; the others go on.
"""

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from features.devices import DeviceName, torch_device
from features.encoders import AnyEncoderConfig
from features.encoders.base import Encoder
from features.encoding import Failed, encode_all
from features.errors import MediaError
from features.limits import GENEROUS, DecodeLimits
from features.manifest import Manifest, read_manifest
from features.provenance import provenance
from features.records import JsonObject, Source
from features.sources import SourceDigests
from features.spec import FeatureSpec
from features.store import FeatureStore

Count = Annotated[int, Field(ge=1)]
Reason = Literal["new", "source changed", "corrupt", "forced"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one clip ended for one feature set."""

    clip: str
    feature_set: str
    state: Literal["extracted", "present", "failed"]
    detail: str = ""
    """Why it was extracted, or what failed."""
    note: str | None = None
    """What is odd about the record, such as why it is empty."""
    n_rows: int = 0


@dataclass(frozen=True, slots=True)
class Extraction:
    """How a run of stage one ended."""

    outcomes: tuple[Outcome, ...]
    seconds: float

    @property
    def counts(self) -> Counter[str]:
        """Outcomes by state."""
        return Counter(outcome.state for outcome in self.outcomes)

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """What could not be done."""
        return tuple(outcome for outcome in self.outcomes if outcome.state == "failed")

    def notes(self) -> list[str]:
        """What is odd about clips that have their features, a line each."""
        return [f"{o.clip}: {o.note}" for o in self.outcomes if o.note]

    def summary(self) -> str:
        """One line for a log."""
        counts = self.counts
        sets = len({outcome.feature_set for outcome in self.outcomes})
        clips = len({outcome.clip for outcome in self.outcomes})
        nothing = "; nothing to encode" if counts["present"] == len(self.outcomes) else ""
        return (
            f"extract-features: {clips} clips x {sets} feature sets: {counts['extracted']} "
            f"extracted, {counts['present']} already there, {counts['failed']} failed, in "
            f"{self.seconds:.1f} s{nothing}"
        )


@dataclass(frozen=True, slots=True)
class Job:
    """One clip that a feature set lacks."""

    source: Source
    reason: Reason
    source_digest: JsonObject


def extract_features(
    manifest: Path,
    store: str,
    encoders: Sequence[AnyEncoderConfig],
    *,
    device: DeviceName = "auto",
    batch_size: Count = 64,
    readers: Count = 2,
    limits: DecodeLimits = GENEROUS,
    force: bool = False,
    on_outcome: Callable[[Outcome, int], None] | None = None,
) -> Extraction:
    """Bring the store up to the manifest; `on_outcome` hears of each clip, with the total."""
    began = time.monotonic()
    clips = read_manifest(manifest)
    specs = [config.spec() for config in encoders]
    place = torch_device(device)
    target = FeatureStore.at(store)
    digests = SourceDigests()
    total = len(clips.clips) * len(encoders)
    outcomes: list[Outcome] = []

    def settle(outcome: Outcome) -> None:
        outcomes.append(outcome)
        if on_outcome:
            on_outcome(outcome, total)

    for spec in specs:
        target.mend(spec)
    work = [
        (config, list(_missing(clips, config, spec, target, digests, settle, force=force)))
        for config, spec in zip(encoders, specs, strict=True)
    ]
    # all networks before the first clip: weights that do not fit should not show hours later
    built = [(config.build(place), config, jobs) for config, jobs in work if jobs]
    if built:
        target.found()
    for encoder, config, jobs in built:
        made_by = {
            **provenance(),
            "encoder": config.model_dump(mode="json"),
            "device": str(place),
            "batch_size": batch_size,
        }
        with closing(_encode(encoder, jobs, target, made_by, batch_size, readers, limits)) as ends:
            for outcome in ends:
                settle(outcome)
    return Extraction(tuple(outcomes), time.monotonic() - began)


def _missing(
    clips: Manifest,
    config: AnyEncoderConfig,
    spec: FeatureSpec,
    store: FeatureStore,
    digests: SourceDigests,
    settle: Callable[[Outcome], None],
    *,
    force: bool,
) -> Iterator[Job]:
    """The clips to extract; the others are settled at once."""
    reasons: dict[str, Reason] = {
        "missing": "new",
        "stale": "source changed",
        "corrupt": "corrupt",
        "complete": "forced",
    }
    for clip in clips.clips:
        source = clips.source(clip)
        try:
            digest = digests.of(source, config.modality)
        except MediaError as error:
            settle(Outcome(clip.id, spec.name, "failed", str(error)))
            continue
        state, why = store.state(spec.name, clip.id, digest)
        if state == "complete" and not force:
            settle(Outcome(clip.id, spec.name, "present", note=why or None))
        else:
            yield Job(source, reasons[state], digest)


def _encode(
    encoder: Encoder,
    jobs: Sequence[Job],
    store: FeatureStore,
    made_by: JsonObject,
    batch_size: int,
    readers: int,
    limits: DecodeLimits,
) -> Generator[Outcome, None, None]:
    """Encode all jobs, and store each clip as soon as it is whole."""
    spec = encoder.spec
    sources = [job.source for job in jobs]
    encoding = encode_all(encoder, sources, batch_size=batch_size, readers=readers, limits=limits)
    with closing(encoding) as results:
        for result in results:
            job = jobs[result.index]
            clip_id = job.source.clip_id
            if isinstance(result, Failed):
                yield Outcome(clip_id, spec.name, "failed", result.why)
                continue
            store.write(
                spec,
                clip_id,
                result.track,
                source=job.source_digest,
                provenance={**made_by, "reason": job.reason},
                note=result.note,
            )
            n_rows = len(result.track.time_s)
            yield Outcome(clip_id, spec.name, "extracted", job.reason, result.note, n_rows)
