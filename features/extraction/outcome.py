"""How a run of stage one ended, clip by clip."""

from collections import Counter
from dataclasses import dataclass
from typing import Literal

Reason = Literal["new", "spec changed", "source changed", "corrupt", "forced"]
"""Why a clip is extracted: it has no record; none of this spec but one of another; one of other
media; one that is damaged; one that is whole, or known not to decode, but was asked for."""

OutcomeState = Literal["extracted", "present", "quarantined", "failed"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one clip ended for one feature set."""

    clip: str
    feature_set: str
    state: OutcomeState
    detail: str = ""
    """What failed, or why it was not tried."""
    note: str | None = None
    """What is odd about the record, such as why it is empty."""
    n_rows: int = 0
    reason: Reason | None = None
    """Why it was tried; None where it was not."""
    n_bytes: int = 0
    """Of the arrays that were put into the store."""


@dataclass(frozen=True, slots=True)
class ExtractionResult:
    """How a run of stage one ended."""

    outcomes: tuple[Outcome, ...]
    seconds: float
    pass_s: float = 0.0
    """Of these, from when the networks were there to the last record."""
    remarks: tuple[str, ...] = ()
    """How busy each stage was, and what may be faster; nothing where nothing was encoded."""

    @property
    def counts(self) -> Counter[str]:
        """Outcomes by state."""
        return Counter(outcome.state for outcome in self.outcomes)

    @property
    def reasons(self) -> Counter[str]:
        """What was extracted, by reason."""
        return Counter(o.reason for o in self.outcomes if o.state == "extracted" and o.reason)

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """What could not be done, now or before."""
        return tuple(o for o in self.outcomes if o.state in ("failed", "quarantined"))

    def notes(self) -> list[str]:
        """What is odd about clips that have their features, a line each."""
        return [f"{o.clip}: {o.note}" for o in self.outcomes if o.note]

    def summary(self) -> str:
        """One line for a log."""
        if not self.outcomes:
            return "extract-features: no clip is in quarantine; nothing to do"
        counts = self.counts
        sets = len({outcome.feature_set for outcome in self.outcomes})
        clips = len({outcome.clip for outcome in self.outcomes})
        quarantined = f", {n} quarantined" if (n := counts["quarantined"]) else ""
        why = f" ({count_reasons(self.reasons)})" if self.reasons else ""
        nothing = "; nothing to encode" if counts["present"] == len(self.outcomes) else ""
        return (
            f"extract-features: {clips} clips x {sets} feature sets: {counts['extracted']} "
            f"extracted, {counts['present']} already there, {counts['failed']} failed"
            f"{quarantined}, in {self.seconds:.1f} s{why}{nothing}"
        )


def count_reasons(reasons: Counter[str]) -> str:
    """How many for each reason, the most first."""
    return ", ".join(f"{n} {reason}" for reason, n in reasons.most_common())
