"""What a run of stage one would do, and how long it may take; nothing is written."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from features.clip import ClipId, Source
from features.encoders import AnyEncoderConfig
from features.errors import MediaError
from features.extraction.outcome import Outcome, count_reasons
from features.extraction.plan import plan_all
from features.extraction.throughput import read_throughput
from features.freshness.digest_cache import open_cache
from features.freshness.media_digests import SourceDigests
from features.manifest.manifest import read_manifest
from features.media.crops import crop_files
from features.media.decoder import Decoder
from features.media.decoder_version import decoder_version
from features.media.limits import DEFAULT_LIMITS, DecodeLimits
from features.store.feature_store import FeatureStore
from features.system.devices import DeviceName, torch_device

LISTED_AT_MOST = 20  # clips that the forecast for a person names
HOUR_S, MINUTE_S = 3600, 60


@dataclass(frozen=True, slots=True)
class MediaAmount:
    """How much media there is, as its containers list it."""

    n_frames: int = 0
    media_s: float = 0.0
    n_unknown: int = 0
    """Clips whose length no container tells."""

    def __add__(self, other: "MediaAmount") -> "MediaAmount":
        """Both together."""
        return MediaAmount(
            self.n_frames + other.n_frames,
            self.media_s + other.media_s,
            self.n_unknown + other.n_unknown,
        )


@dataclass(frozen=True, slots=True)
class SetEstimate:
    """What would be done for one feature set."""

    feature_set: str
    reasons: dict[str, str]
    """Why each clip would be extracted."""
    settled: tuple[Outcome, ...]
    """How the other clips stand."""
    length: MediaAmount
    """Of what would be extracted."""
    rows_per_s: float | None
    """As it was measured so far; None where it was not."""
    seconds: float | None
    """How long it may take, loading aside; None where nothing was measured yet."""

    @property
    def listed(self) -> Iterator[str]:
        """Each clip that would be extracted though it was before, or cannot be, and why."""
        yield from (f"{clip}: {why}" for clip, why in self.reasons.items() if why != "new")
        for outcome in self.settled:
            if outcome.state != "present":
                yield f"{outcome.clip}: {outcome.state}: {outcome.detail}"


@dataclass(frozen=True, slots=True)
class DryRun:
    """What would be done for every feature set."""

    sets: tuple[SetEstimate, ...]

    @property
    def counts(self) -> Counter[str]:
        """Clips to extract by reason, and the others by state."""
        reasons = Counter(reason for each in self.sets for reason in each.reasons.values())
        return reasons + Counter(outcome.state for each in self.sets for outcome in each.settled)


def plan_dry_run(
    manifest: Path,
    store: str,
    encoders: Sequence[AnyEncoderConfig],
    *,
    device: DeviceName = "auto",
    limits: DecodeLimits = DEFAULT_LIMITS,
    only: Sequence[ClipId] = (),
    failed: bool = False,
    force: bool = False,
) -> DryRun:
    """What `extract_features` would do with the same keys; neither store nor work is touched."""
    clips = read_manifest(manifest).select(only)
    target, place, tool = (
        FeatureStore.open_or_plan(store),
        torch_device(device).type,
        decoder_version(limits),
    )
    lengths: dict[Source, MediaAmount] = {}
    found: list[SetEstimate] = []
    with open_cache(target.work, read_only=True) as memo, closing(Decoder(limits)) as decoder:
        digests = SourceDigests(memo)
        specs = [(config, config.spec()) for config in encoders]
        plans = plan_all(clips, specs, target, digests, tool, force=force, failed=failed)
        for planned in plans:
            spec = planned.spec
            length = MediaAmount()
            for job in planned.jobs:
                if job.source not in lengths:
                    lengths[job.source] = _media_amount(job.source, decoder)
                length += lengths[job.source]
            so_far = read_throughput(target.work, spec.name, place)
            found.append(
                SetEstimate(
                    spec.name,
                    {job.clip.id: job.reason for job in planned.jobs},
                    planned.settled,
                    length,
                    so_far.rows / so_far.seconds if so_far.rows and so_far.seconds else None,
                    0.0 if not planned.jobs else so_far.seconds_for(length.media_s),
                )
            )
    return DryRun(tuple(found))


def _media_amount(source: Source, decoder: Decoder) -> MediaAmount:
    """How long a clip is, without decoding it."""
    try:
        if source.video is None:
            n_crops = len(crop_files(source.frames)) if source.frames else 0
            return (
                MediaAmount(n_crops, n_crops / source.fps)
                if source.fps
                else MediaAmount(n_crops, 0.0, 1)
            )
        listed = decoder.probe(source.video)
    except MediaError:  # the run itself would say what is wrong with it
        return MediaAmount(n_unknown=1)
    fps = source.fps or listed.mean_fps
    if not fps:
        return MediaAmount(listed.n_frames, 0.0, 1)
    return MediaAmount(listed.n_frames, listed.n_frames / fps)


def render_dry_run(found: DryRun) -> Iterator[str]:
    """The forecast for a person, line by line."""
    for each in found.sets:
        why = f" ({count_reasons(Counter(each.reasons.values()))})" if each.reasons else ""
        stands = Counter(outcome.state for outcome in each.settled)
        others = "".join(f", {n} {STANDS[state]}" for state, n in stands.items())
        yield f"{each.feature_set}: {len(each.reasons)} to extract{why}{others}"
        if each.reasons:
            yield f"  {_amount(each.length)}; {_time(each)}"
        listed = list(each.listed)
        yield from (f"  {line}" for line in listed[:LISTED_AT_MOST])
        if len(listed) > LISTED_AT_MOST:
            yield f"  and {len(listed) - LISTED_AT_MOST} more"
    yield "dry run: nothing was written"


STANDS = {
    "present": "already there",
    "quarantined": "in quarantine",
    "failed": "cannot be read",
}


def _amount(length: MediaAmount) -> str:
    """Frames and hours, in words."""
    unknown = f", and {length.n_unknown} clips of unknown length" if length.n_unknown else ""
    return f"{length.n_frames} frames, {length.media_s / HOUR_S:.2f} hours of media{unknown}"


def _time(each: SetEstimate) -> str:
    """How long it may take, in words."""
    if each.seconds is None or each.rows_per_s is None:
        return "how long it takes is not known yet: nothing of this set was encoded here so far"
    hours, rest = divmod(round(each.seconds), HOUR_S)
    minutes, seconds = divmod(rest, MINUTE_S)
    about = f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
    return f"about {about} at the {each.rows_per_s:.1f} rows a second measured so far"
