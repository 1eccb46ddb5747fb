"""How an extraction ended: an outcome for each clip and feature set, and the result of the run."""

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from features.spec import Modality

Reason = Literal["new", "spec changed", "source changed", "decoder changed", "corrupt", "forced"]
"""Why a clip is extracted: it has no record; it has one of another spec of the same kind; its media
changed; its record is damaged; it was extracted or quarantined before, but is asked for again."""

OutcomeState = Literal["extracted", "present", "quarantined", "failed"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one clip ended for one feature set."""

    clip: str
    feature_set: str
    state: OutcomeState
    detail: str = ""
    """What failed, or why the clip was not tried."""
    note: str | None = None
    """What is unusual about the record, such as why it is empty."""
    n_rows: int = 0
    reason: Reason | None = None
    """Why the clip was tried; None if it was not."""
    n_bytes: int = 0
    """Size of the arrays that were stored."""


@dataclass(frozen=True, slots=True)
class ClipRead:
    """How much of one clip has been read for one feature set."""

    clip: str
    feature_set: str
    modality: Modality
    n_items: int
    """Frames, or windows of sound."""


@dataclass(frozen=True, slots=True)
class ExtractionResult:
    """How an extraction ended, and how fast it was."""

    outcomes: tuple[Outcome, ...]
    seconds: float
    pass_s: float = 0.0
    """Seconds from the loaded encoders to the last record; a part of `seconds`."""
    remarks: tuple[str, ...] = ()
    """How busy each stage was, and what may be faster; empty if nothing was encoded."""

    @property
    def counts(self) -> Counter[str]:
        """Number of outcomes by state."""
        return Counter(outcome.state for outcome in self.outcomes)

    @property
    def reasons(self) -> Counter[str]:
        """Number of extracted clips by reason."""
        return Counter(o.reason for o in self.outcomes if o.state == "extracted" and o.reason)

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """Outcomes of clips that failed or are in quarantine."""
        return tuple(o for o in self.outcomes if o.state in ("failed", "quarantined"))

    def notes(self) -> list[str]:
        """The notes on stored records, a line each."""
        return [f"{o.clip}: {o.note}" for o in self.outcomes if o.note]

    def summary(self) -> str:
        """The counts in one line for a log."""
        if not self.outcomes:
            return "extract-features: no clip is in quarantine; nothing to do"
        counts = self.counts
        sets = len({outcome.feature_set for outcome in self.outcomes})
        clips = len({outcome.clip for outcome in self.outcomes})
        quarantined = f", {n} quarantined" if (n := counts["quarantined"]) else ""
        reasons = f" ({render_reasons(self.reasons)})" if self.reasons else ""
        nothing = "; nothing to encode" if counts["present"] == len(self.outcomes) else ""
        return (
            f"extract-features: {clips} clips x {sets} feature sets: {counts['extracted']} "
            f"extracted, {counts['present']} already there, {counts['failed']} failed"
            f"{quarantined}, in {self.seconds:.1f} s{reasons}{nothing}"
        )


def render_reasons(reasons: Counter[str]) -> str:
    """The number of clips for each reason, the most frequent first."""
    return ", ".join(f"{n} {reason}" for reason, n in reasons.most_common())
