"""The card of a prediction folder: who made them, and what they do not mean."""

from collections.abc import Sequence
from pathlib import Path

from features.encoders import AnyEncoderConfig
from models.metrics.scores import SplitScore
from models.prediction.encoders import REMEDY, folders_of
from models.prediction.record import shown_path
from models.runs.exported import AnyModel, ExportedHead
from models.runs.folder import PROVENANCE, SCORES, read_json
from models.runs.predictor import TrainedEnsemble

DRAWN = "vaflow-"
"""The beginning of the names of the encoders that come with vaflow, trained on drawn faces."""

APPARENT = (
    "Valence (how pleasant) and arousal (how active) of the emotion that a person shows, as the "
    "raters of the training videos would have rated it. It is not what the person feels, and says "
    "nothing of character, health, honesty or intent. Do not decide about people by it."
)
PEOPLE = (
    "The model knows the people, cameras, languages and cultures of its training set. On others, "
    "errors are larger, and not equally large for all groups of people. A score on the training "
    "set's own test people is an upper bound for yours: measure on labelled videos of your own."
)
ROWS = (
    "Rows with 0 in the column valid have no picture of the person: their values are interpolated "
    "between neighbouring rows. The spread is the standard deviation over an ensemble's members; "
    "it tells how much trainings differ, not how wrong they are together. A region's probability "
    "is that of the region branch, and is not calibrated on your videos."
)
DRAWN_FACES = (
    "The encoders of this run were trained on drawn faces and synthetic voices, to show how the "
    "parts work together. On pictures of real people these numbers mean nothing."
)
WHOLE_FRAMES = (
    "The pictures are whole frames, not face crops. A head that was trained on face crops reads "
    "them badly unless the face fills the frame."
)
ZERO_SHOT = (
    "Nothing was trained: valence and arousal are read from the similarity of each picture to "
    "texts that describe the nine regions. The sound is not used."
)
UNMATCHED = "The values are not matched to any labels, and are drawn to the middle."
MATCHED = (
    "Mean and deviation of the values are matched to those of labels, which may be those of other "
    "people and videos than yours."
)
LICENCE = (
    "Data sets restrict what is trained on them. Aff-Wild2 is given to researchers for "
    "non-commercial use, and its agreement restricts the models that are trained on it, too: ask "
    "its authors before any other use."
)


def card(
    model: AnyModel | None,
    encoders: Sequence[AnyEncoderConfig],
    *,
    whole_frames: bool,
    matched: bool,
) -> tuple[str, ...]:
    """Return the paragraphs of the card; without a model, those of a zero-shot prediction."""
    is_drawn = any(DRAWN in str(getattr(config, "model", "")) for config in encoders)
    chosen = (
        (True, APPARENT),
        (is_drawn, DRAWN_FACES),
        (model is None, ZERO_SHOT),
        (model is None, MATCHED if matched else UNMATCHED),
        (model is not None, PEOPLE),
        (whole_frames, WHOLE_FRAMES),
        (True, ROWS),
        (model is not None, LICENCE),
    )
    return tuple(text for applies, text in chosen if applies)


def facts_of(model: AnyModel | None, encoders: Sequence[AnyEncoderConfig]) -> dict[str, str | None]:
    """Return the names and values of what made the predictions; None for what is not known."""
    facts: dict[str, str | None] = {"model": "region texts alone (zero-shot)"}
    if model is not None:
        facts = {
            "model": _kind(model),
            "run": shown_path(model.run.resolve()),
            "trained on": _trained_on(model),
            "scored by its training": _score(model),
        }
    for config in encoders:
        fields = config.model_dump(exclude_defaults=True, exclude={"kind"}).items()
        settings = ", ".join(f"{name} {value}" for name, value in fields)
        facts[f"encoder {config.kind}"] = settings or "default settings"
    return facts


def _kind(model: AnyModel) -> str:
    if isinstance(model, TrainedEnsemble):
        return f"ensemble of {len(model.members)} heads of kind {model.meta.head.kind}"
    if isinstance(model, ExportedHead):
        return f"exported head of kind {model.meta.kind}"
    return f"head of kind {model.meta.head.kind}"


def _trained_on(model: AnyModel) -> str | None:
    if isinstance(model, ExportedHead):
        facts = model.meta.trained_on
        manifest = ", ".join(facts.manifests)
        return f"{facts.n_clips} clips of {manifest}" if facts.n_clips else manifest
    given = model.config.manifest
    manifests = (given,) if isinstance(given, Path) else given
    manifest = ", ".join(shown_path(path) for path in manifests)
    clips = _clips(model.run)
    return f"{clips} clips of {manifest}" if clips else manifest


def clips_by_split(run: Path) -> dict[str, list[str]]:
    """The ids of the clips of a training; empty if its provenance does not tell."""
    inputs = read_json(run / PROVENANCE, REMEDY).get("inputs")
    clips = inputs.get("clips") if isinstance(inputs, dict) else None
    return clips if isinstance(clips, dict) else {}


def _clips(run: Path) -> int:
    """The number of clips that a run was trained on; 0 if its provenance does not tell."""
    clips = clips_by_split(run)
    held_out = () if any(name.startswith("fold") for name in clips) else ("val", "test")
    return sum(len(ids) for split, ids in clips.items() if split not in held_out)


def _score(model: AnyModel) -> str | None:
    if isinstance(model, TrainedEnsemble):
        score = model.record.out_of_fold_smoothed
        return f"mean CCC {score.ccc_mean:.3f}, out of fold and smoothed"
    if isinstance(model, ExportedHead):
        score = model.meta.scores.get("val")
        return score and f"mean CCC {score.ccc_mean:.3f} on the split val"
    for folder in folders_of(model):
        entry = read_json(folder / SCORES, REMEDY).get("val")
        if isinstance(entry, dict):
            score = SplitScore(**entry)
            return f"mean CCC {score.ccc_mean:.3f} on the split val"
    return None
