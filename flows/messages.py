"""The results of stages as lines and tables for the terminal."""

from collections.abc import Iterable, Iterator

from rich.table import Table

from features.extraction.dry_run import DryRun, render_dry_run
from features.extraction.outcome import ExtractionResult
from flows.console import make_table
from flows.stages import PipelineResult
from models.ablation.table import CurveRow, TableRow, full_name, number
from models.baselines import AnyBaselineConfig
from models.baselines.text import TextConfig
from models.metrics.scores import SplitScore
from models.stages.ablate import Ablation
from models.stages.baselines import BaselineScores
from models.stages.grid import Grid
from models.stages.learning_curve import LearningCurve
from models.stages.points import PointComparison
from models.stages.predict import PredictResult
from models.stages.score_head import ScoreResult
from models.stages.sweep import BEST, Sweep
from models.stages.train_ensemble import EnsembleResult
from models.stages.train_head import TrainResult
from models.stages.zero_shot import ZeroShotResult
from models.sweeps.table import value_text


def describe(result: object) -> Iterator[str | Table]:
    """Yield the lines and tables that present the result of a stage."""
    match result:
        case PipelineResult():
            for each in (result.extraction, result.training, result.score):
                yield from describe(each)
        case ExtractionResult():
            yield result.summary()
            yield from (f"  {remark}" for remark in result.remarks)
            yield from _notes(result.notes())
        case DryRun():
            yield from render_dry_run(result)
        case TrainResult():
            yield _training_line(result)
            yield from _notes(result.notes)
        case EnsembleResult():
            yield ensemble_line(result)
            yield from _notes(result.notes)
        case ScoreResult():
            yield _score_line(result)
            for name, score in result.by_set.items():
                yield f"  {name}: {ccc_text(score)} over {score.n_frames} labels{_interval(score)}"
            yield from _notes(result.notes)
            yield _clip_table(result)
        case BaselineScores():
            yield from _notes(result.notes)
            yield baseline_table(result)
            if result.output:
                yield f"baselines: the scores are in {result.output}"
        case PredictResult():
            yield result.summary()
            yield from result.remarks()
        case ZeroShotResult():
            yield from _zero_shot_lines(result)
            yield from _notes(result.notes)
        case Ablation() | LearningCurve():
            yield from _notes(result.notes)
            is_curve = isinstance(result, LearningCurve)
            yield _curve_table(result) if is_curve else _ablation_table(result)
            yield (
                f"{result.stage}: {len(result.rows)} rows; {result.n_trained} heads trained, "
                f"{result.n_present} already there; {result.file}.html, {result.file}.md and "
                f"{result.file}.csv are in {result.run}"
            )
        case PointComparison():
            yield from _notes(
                (*result.notes, result.selection) if result.selection else result.notes
            )
            yield _point_table(result)
            yield (
                f"{result.stage}: {len(result.rows)} rows, {result.n_pruned} of them pruned; "
                f"{result.n_trained} heads trained, {result.n_present} already there; "
                f"{result.file}.html, {result.file}.md and {result.file}.csv are in {result.run}"
            )
            if isinstance(result, Sweep) and result.selection:
                yield f"sweep: the keys of {result.rows[0].name} are in {result.run / BEST}"
        case _:
            raise TypeError(f"{type(result).__name__} is the result of no stage: add a case")


def _notes(notes: Iterable[str]) -> Iterator[str]:
    return (f"  note: {note}" for note in notes)


def _ablation_table(result: Ablation) -> Table:
    rows = [
        (
            full_name(row.group, row.row),
            number(row.ccc_mean),
            number(row.averaged),
            *_difference(row),
            number(row.p_holm),
        )
        for row in result.rows
    ]
    title = "val mean CCC: over seeds, and of the predictions averaged over them"
    columns = ["mean", "averaged", "to default", "95 %, paired", "p (Holm)"]
    return make_table(title, ["row"], columns, rows)


def _curve_table(result: LearningCurve) -> Table:
    rows = [
        (
            full_name(row.group, row.row),
            str(row.people),
            f"{row.noise:g}",
            number(row.ccc_mean),
            *_difference(row),
        )
        for row in result.rows
    ]
    names = ["people", "label noise", "mean", "to default", "95 %, paired"]
    return make_table("val mean CCC, mean over the draws", ["row"], names, rows)


def _point_table(result: PointComparison) -> Table:
    rows, names = [], ["run"] if isinstance(result, Grid) else ["trial", "changes"]
    for row in result.rows:
        changes = "\n".join(f"{key}={value_text(row, key)}" for key in row.params)
        score = number(row.score) if row.state == "complete" else row.state
        texts = (row.name, changes)[: len(names)]  # a run of a grid is named by its changes
        rows.append((*texts, score, *_difference(row.scores), number(row.scores.p_holm)))
    title = f"{result.stage}: mean CCC, the best first"
    columns = ["score", f"to {result.reference}", "95 %, paired", "p (Holm)"]
    return make_table(title, names, columns, rows)


def _difference(row: TableRow | CurveRow) -> tuple[str, str]:
    low, high = number(row.difference_low, "+.3f"), number(row.difference_high, "+.3f")
    return number(row.difference, "+.3f"), "" if row.difference is None else f"{low} to {high}"


def _training_line(result: TrainResult) -> str:
    kept = result.kept
    if result.state == "present":
        return (
            f"train-head: {result.run} holds this very head already; nothing to train "
            f"(val mean CCC {kept.ccc_mean:.3f})"
        )
    replaced = f"; it replaced another head, because {result.reason}" if result.reason else ""
    return (
        f"train-head: {len(result.epochs)} epochs, epoch {kept.index + 1} is kept, with val mean "
        f"CCC {kept.ccc_mean:.3f}; in {result.run}{replaced}"
    )


def ensemble_line(result: EnsembleResult) -> str:
    """The result of training an ensemble in one line."""
    ensemble, widths = result.ensemble, result.ensemble.widths_s
    n = len(ensemble.members)
    how = f"{n} members, {result.n_kept} of them there already"
    if result.state == "present":
        how = f"{result.run} holds this very ensemble of {n} already; nothing to train"
    score = ensemble.out_of_fold
    return (
        f"train-ensemble: {how}; out-of-fold {ccc_text(score)}{_interval(score)}; "
        f"smoothed, each fold by the widths of the others, mean "
        f"{ensemble.out_of_fold_smoothed.ccc_mean:.3f}; widths {widths.valence:g} s (valence) and "
        f"{widths.arousal:g} s (arousal); in {result.run}"
    )


def _score_line(result: ScoreResult) -> str:
    again = "; nothing to score again" if result.state == "present" else ""
    score = result.score
    if score is None:
        return f"score-head: {result.split} has no labels: predictions only, in {result.run}{again}"
    return (
        f"score-head: {result.split}: {ccc_text(score)} over {score.n_frames} labels of "
        f"{score.n_clips} clips ({score.n_interpolated} frames interpolated)"
        f"{_interval(score)}{again}"
    )


def ccc_text(score: SplitScore) -> str:
    """The three CCCs of a score, without their interval."""
    return (
        f"CCC valence {score.ccc_valence:.3f}, arousal {score.ccc_arousal:.3f}, mean "
        f"{score.ccc_mean:.3f}"
    )


def _interval(score: SplitScore) -> str:
    if score.ccc_mean_low is None:
        return ""
    return (
        f"; 95 % interval of the mean {score.ccc_mean_low:.3f} to {score.ccc_mean_high:.3f} "
        f"over {score.n_subjects} subjects"
    )


def _zero_shot_lines(result: ZeroShotResult) -> Iterator[str]:
    matched = {
        "train": "matched to mean and deviation of the train split's labels",
        "published": "matched to the published mean and deviation of Aff-Wild2",
        "none": "not matched",
    }
    yield (
        f"zero-shot: {result.n_frames} frames of {result.n_clips} clips predicted, "
        f"{matched[result.match]}; in {result.output}"
    )
    for split, score in result.scores.items():
        yield f"  {split}: {ccc_text(score)} over {score.n_frames} labels{_interval(score)}"


def _clip_table(result: ScoreResult) -> Table:
    """The score of each clip: a diagnostic, as the score of a split pools all labels."""
    rows = []
    for clip in result.clips:
        cells = ["-" if c is None else f"{c:.3f}" for c in (clip.ccc_valence, clip.ccc_arousal)]
        rows.append((clip.clip, str(clip.n_frames), str(clip.n_interpolated), *cells))
    title = f"{result.split}, clip by clip (a diagnostic, not the score)"
    names = ["labels", "frames interpolated", "CCC valence", "CCC arousal"]
    return make_table(title, ["clip"], names, rows)


def baseline_name(baseline: AnyBaselineConfig) -> str:
    """The kind of a baseline, followed by its settings that differ from the defaults."""
    chosen = baseline.model_dump(exclude_defaults=True, exclude={"kind", "streams"})
    return ", ".join([baseline.kind, *(f"{key}={value}" for key, value in chosen.items())])


def baseline_streams(baseline: AnyBaselineConfig) -> str:
    """The streams that a baseline reads."""
    if isinstance(baseline, TextConfig):
        return "that of the texts"
    return ", ".join(baseline.streams) if baseline.streams else "all"


def baseline_table(result: BaselineScores) -> Table:
    """The val CCC of each baseline, and the interval of its mean over subjects."""
    rows = []
    for baseline, score in result.scores:
        cells = [f"{c:.3f}" for c in (score.ccc_valence, score.ccc_arousal, score.ccc_mean)]
        interval = "-"
        if score.ccc_mean_low is not None:
            interval = f"{score.ccc_mean_low:.3f} to {score.ccc_mean_high:.3f}"
        rows.append((baseline_name(baseline), baseline_streams(baseline), *cells, interval))
    names = ["valence", "arousal", "mean", "95 % interval"]
    return make_table("val CCC, learnt on the train split", ["baseline", "streams"], names, rows)
