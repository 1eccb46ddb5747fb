"""The statistics of one feature set."""

from dataclasses import asdict, dataclass

from features.canonical_json import JsonObject
from features.maintenance.statistics.scan import SetSummary

LIKELY_SAME_COSINE = 0.9999  # of probable copies; other pairs of the demo's set reach 0.998


@dataclass(frozen=True, slots=True)
class NearPair:
    """Two clips with similar mean embeddings."""

    first: str
    second: str
    cosine: float

    @property
    def is_likely(self) -> bool:
        """Whether the two are probably copies."""
        return self.cosine >= LIKELY_SAME_COSINE


@dataclass(frozen=True, slots=True)
class Coverage:
    """The part of a manifest that a feature set has."""

    n_clips: int
    """Number of clips in the manifest."""
    missing: tuple[str, ...]
    """Clips of the manifest without a sound record."""

    @property
    def share(self) -> float:
        """Share of the clips with a sound record, from 0 to 1."""
        return 1 - len(self.missing) / self.n_clips

    def as_json(self) -> JsonObject:
        """Return the coverage as `stats --json` prints it."""
        return {"clips": self.n_clips, "share": self.share, "missing": list(self.missing)}


@dataclass(frozen=True, slots=True)
class SetStatistics:
    """The statistics of one feature set."""

    spec: str
    """Name of the feature set."""
    modality: str
    width: int
    """Numbers per row; 0 if no record has readable metadata."""
    summary: SetSummary
    nearest: tuple[NearPair, ...]
    """The pairs of clips with the highest cosines, highest first."""
    n_likely: int
    """Number of pairs that are probably copies, whether in `nearest` or not."""
    manifest_coverage: Coverage | None
    """None without a manifest."""

    @property
    def valid_share(self) -> float | None:
        """Share of the rows that are valid; None without rows."""
        n_rows = self.summary.n_rows
        return self.summary.moments.n / n_rows if n_rows else None

    def as_json(self) -> JsonObject:
        """Return the statistics as `stats --json` prints them; without valid rows, no dimension."""
        summary, moments = self.summary, self.summary.moments
        arrays = {"mean": moments.mean, "std": moments.std, "low": moments.low}
        arrays["high"] = moments.high
        return {
            "spec": self.spec,
            "modality": self.modality,
            "clips": summary.n_clips,
            "rows": summary.n_rows,
            "valid_rows": moments.n,
            "coverage": self.valid_share,
            "width": self.width,
            "seconds": summary.duration_s,
            "covered_s": summary.valid_s,
            "bytes": summary.n_bytes,
            "not_finite": summary.n_not_finite,
            "dead": list(moments.dead),
            "dimensions": {k: a.tolist() if moments.n else [] for k, a in arrays.items()},
            "blank": [asdict(each) for each in summary.empty],
            "damaged": [asdict(each) for each in summary.damaged],
            "manifest": self.manifest_coverage.as_json() if self.manifest_coverage else None,
            "nearest": [{**asdict(p), "likely": p.is_likely} for p in self.nearest],
            "likely_duplicates": self.n_likely,
        }
