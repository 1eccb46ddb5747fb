"""The acceptance bounds of the demo: the difficulty of the rendered set, and a head's gain."""

from dataclasses import dataclass

from rich.table import Table

from flows.console import make_table
from models.baselines.predict import predict_baseline
from models.baselines.ridge import RidgeConfig
from models.data.train_val import load_splits
from models.metrics.predict import concordance
from models.metrics.scores import SplitScore
from models.runs.folder import RunConfig

VISUAL, AUDIO = (0.35, 0.65), (0.20, 0.50)  # val mean CCC of ridge: neither too hard nor too easy
MAX_CCC = 0.90  # a set that allows more is too easy
MARGIN = 0.08  # by which the head exceeds ridge on one stream
LEAST_MEAN, LEAST_EACH = 0.50, 0.40  # of the head on any rendered set
NEIGHBOURS_S = (1.0, 4.0)  # spans around a row over which features are averaged


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """The val CCC of one model, and the range of its mean that is accepted."""

    name: str
    valence: float
    arousal: float
    low: float
    high: float
    least_each: float = -1.0

    @property
    def mean(self) -> float:
        """The mean of both CCCs."""
        return (self.valence + self.arousal) / 2

    @property
    def holds(self) -> bool:
        """Whether the scores are accepted."""
        within = self.low <= self.mean <= self.high
        return within and min(self.valence, self.arousal) >= self.least_each


def score_rows(config: RunConfig, head: SplitScore) -> tuple[ScoreRow, ...]:
    """The rows of ridge on the features of a run, without and with neighbours, and of its head."""
    splits = load_splits(config.manifest, config.store, config.streams, config.max_length_mismatch)

    def ridge(name: str, low: float, high: float, baseline: RidgeConfig) -> ScoreRow:
        predicted = predict_baseline(
            baseline, splits.train, splits.val, splits.subject_by_clip, splits.read_regions
        )
        score = concordance(predicted, splits.val)
        return ScoreRow(f"ridge, {name}", score.valence.ccc(), score.arousal.ccc(), low, high)

    visual = ridge("visual", *VISUAL, RidgeConfig(streams=("visual",)))
    audio = ridge("audio", *AUDIO, RidgeConfig(streams=("audio",)))
    alone = max(visual.mean, audio.mean)
    both = ridge("both", alone, MAX_CCC, RidgeConfig())
    near = RidgeConfig(spans_s=NEIGHBOURS_S)
    neighbours = ridge("both, with neighbours", both.mean, MAX_CCC, near)
    low, ccc = max(alone + MARGIN, LEAST_MEAN), (head.ccc_valence, head.ccc_arousal)
    trained = ScoreRow(config.head.kind, *ccc, low, MAX_CCC, LEAST_EACH)
    return visual, audio, both, neighbours, trained


def table(rows: tuple[ScoreRow, ...]) -> Table:
    """The rows as a table for the terminal."""
    cells = []
    for row in rows:
        scores = [f"{score:.3f}" for score in (row.valence, row.arousal, row.mean)]
        band = f"{row.low:.3f} to {row.high:.3f}"
        cells.append((row.name, *scores, band, "yes" if row.holds else "NO"))
    names = ["valence", "arousal", "mean", "band", "holds"]
    return make_table("val CCC, and the band that its mean must lie in", ["model"], names, cells)
