"""What an extraction would do, and how long it may take; nothing is written."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from features.clip import Source
from features.errors import MediaError
from features.extraction.options import ExtractionOptions
from features.extraction.outcome import Outcome, render_reasons
from features.extraction.plan import plan_extraction
from features.extraction.throughput import read_throughput
from features.manifest.manifest import read_manifest
from features.media.crops import crop_files
from features.media.decoder import Decoder
from features.system.devices import torch_device

MAX_LISTED = 20  # clips that `render_dry_run` names for each feature set
HOUR_S, MINUTE_S = 3600, 60
STATES = {"present": "already there", "quarantined": "in quarantine", "failed": "cannot be read"}


@dataclass(frozen=True, slots=True)
class MediaAmount:
    """How much media there is, according to its containers."""

    n_frames: int = 0
    media_s: float = 0.0
    n_unknown: int = 0
    """Number of clips of unknown duration."""

    def __add__(self, other: "MediaAmount") -> "MediaAmount":
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
    outcomes: tuple[Outcome, ...]
    """The outcomes of the other clips."""
    media: MediaAmount
    """Media that would be decoded."""
    rows_per_s: float | None
    """Rows per second that were measured before; None if nothing was."""
    seconds: float | None
    """Estimated time without loading encoders; None if nothing was measured before."""


@dataclass(frozen=True, slots=True)
class DryRun:
    """What would be done for every feature set."""

    sets: tuple[SetEstimate, ...]

    @property
    def counts(self) -> Counter[str]:
        """Number of clips to extract by reason, and of the others by state."""
        reasons = Counter(reason for each in self.sets for reason in each.reasons.values())
        return reasons + Counter(outcome.state for each in self.sets for outcome in each.outcomes)


def plan_dry_run(manifest: Path, options: ExtractionOptions) -> DryRun:
    """What `extract_features` would do with the same options; writes nothing."""
    device = torch_device(options.device).type
    plan = plan_extraction(read_manifest(manifest), options, read_only=True)
    amounts: dict[Source, MediaAmount] = {}
    estimates: list[SetEstimate] = []
    with closing(Decoder(options.limits)) as decoder:
        for each in plan.sets:
            media = MediaAmount()
            for job in each.jobs:
                if job.source not in amounts:
                    amounts[job.source] = _media_amount(job.source, decoder)
                media += amounts[job.source]
            measured = read_throughput(plan.store.work, each.spec.name, device)
            rows_per_s = measured.rows / measured.seconds if measured.seconds else None
            seconds = measured.seconds_for(media.media_s) if each.jobs else 0.0
            reasons = {job.clip.id: job.reason for job in each.jobs}
            estimates.append(
                SetEstimate(
                    each.spec.name, reasons, each.outcomes, media, rows_per_s or None, seconds
                )
            )
    return DryRun(tuple(estimates))


def _media_amount(source: Source, decoder: Decoder) -> MediaAmount:
    """The frames and the duration of a clip, without decoding it."""
    try:
        if source.video is None:
            n_frames, fps = len(crop_files(source.frames)) if source.frames else 0, source.fps
        else:
            listed = decoder.probe(source.video)
            n_frames, fps = listed.n_frames, source.fps or listed.mean_fps
    except MediaError:  # the extraction itself reports it
        return MediaAmount(n_unknown=1)
    return MediaAmount(n_frames, n_frames / fps) if fps else MediaAmount(n_frames, 0.0, 1)


def render_dry_run(dry_run: DryRun) -> Iterator[str]:
    """The dry run as text, line by line."""
    for each in dry_run.sets:
        reasons = f" ({render_reasons(Counter(each.reasons.values()))})" if each.reasons else ""
        states = Counter(outcome.state for outcome in each.outcomes)
        others = "".join(f", {n} {STATES[state]}" for state, n in states.items())
        yield f"{each.feature_set}: {len(each.reasons)} to extract{reasons}{others}"
        if each.reasons:
            media = each.media
            unknown = f", and {media.n_unknown} clips of unknown length" if media.n_unknown else ""
            hours = f"{media.media_s / HOUR_S:.2f} hours of media"
            yield f"  {media.n_frames} frames, {hours}{unknown}; {_render_time(each)}"
        listed = [f"{clip}: {reason}" for clip, reason in each.reasons.items() if reason != "new"]
        listed += [
            f"{o.clip}: {o.state}: {o.detail}" for o in each.outcomes if o.state != "present"
        ]
        yield from (f"  {line}" for line in listed[:MAX_LISTED])
        if len(listed) > MAX_LISTED:
            yield f"  and {len(listed) - MAX_LISTED} more"
    yield "dry run: nothing was written"


def _render_time(each: SetEstimate) -> str:
    if each.seconds is None or each.rows_per_s is None:
        return "how long it takes is not known yet: nothing of this set was encoded here so far"
    hours, rest = divmod(round(each.seconds), HOUR_S)
    minutes, seconds = divmod(rest, MINUTE_S)
    duration = f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
    return f"about {duration} at the {each.rows_per_s:.1f} rows a second measured so far"
