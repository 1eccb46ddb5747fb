"""What the features of one set are like: the answer, for a program and for a person."""

from dataclasses import asdict, dataclass

from features.canonical_json import JsonObject
from features.maintenance.statistics.scan import SetSummary

LIKELY_SAME_COSINE = (
    0.9999  # cosine of a pair that is probably the same; on the demo's set others reach .998
)


@dataclass(frozen=True, slots=True)
class NearPair:
    """Two clips that are alike."""

    first: str
    second: str
    cosine: float

    @property
    def is_likely(self) -> bool:
        """Whether they are so near that they are probably the same."""
        return self.cosine >= LIKELY_SAME_COSINE


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a set has of a manifest."""

    n_clips: int
    """Of the manifest."""
    missing: tuple[str, ...]
    """Those without a sound record."""

    @property
    def share(self) -> float:
        """Between 0 and 1."""
        return 1 - len(self.missing) / self.n_clips

    def as_json(self) -> JsonObject:
        """The share as a part of the statistics."""
        return {"clips": self.n_clips, "share": self.share, "missing": list(self.missing)}


@dataclass(frozen=True, slots=True)
class SetStatistics:
    """One feature set."""

    spec: str
    modality: str
    width: int
    """Of a row; 0 where no record tells."""
    survey: SetSummary
    nearest: tuple[NearPair, ...]
    """The nearest pairs of clips, the nearest first."""
    n_likely: int
    """Pairs that are probably the same, listed or not."""
    share: Coverage | None
    """Of the manifest, where one was given."""

    @property
    def coverage(self) -> float | None:
        """The share of rows that are valid; None where there are no rows."""
        n_rows = self.survey.n_rows
        return self.survey.moments.n / n_rows if n_rows else None

    def as_json(self) -> JsonObject:
        """The statistics as `stats --json` prints them; no dimension where no row is valid."""
        found, moments = self.survey, self.survey.moments
        arrays = {"mean": moments.mean, "std": moments.std, "low": moments.low}
        arrays["high"] = moments.high
        return {
            "spec": self.spec,
            "modality": self.modality,
            "clips": found.n_clips,
            "rows": found.n_rows,
            "valid_rows": moments.n,
            "coverage": self.coverage,
            "width": self.width,
            "seconds": found.seconds,
            "covered_s": found.covered_s,
            "bytes": found.n_bytes,
            "not_finite": found.n_not_finite,
            "dead": list(moments.dead),
            "dimensions": {k: a.tolist() if moments.n else [] for k, a in arrays.items()},
            "blank": [asdict(each) for each in found.blank],
            "damaged": [asdict(each) for each in found.damaged],
            "manifest": self.share.as_json() if self.share else None,
            "nearest": [{**asdict(p), "likely": p.is_likely} for p in self.nearest],
            "likely_duplicates": self.n_likely,
        }
