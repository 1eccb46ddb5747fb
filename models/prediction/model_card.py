"""The model card of an exported head, as Markdown (Mitchell et al., 2019)."""

import json
from collections.abc import Iterable, Iterator, Sequence

from models.metrics.scores import SplitScore
from models.prediction.card import APPARENT, DRAWN, DRAWN_FACES, LICENCE, PEOPLE
from models.runs.exported import PROGRAM, HeadDescription
from models.runs.folder import EXPORTED

EXAMPLE = """\
import json
from pathlib import Path

import torch

about = json.loads(Path("{description}").read_text())
head = torch.export.load("{program}").module()
streams = about["streams"].items()
n = 4  # any number of windows
values = {{name: torch.zeros(n, each["n_rows"], each["width"]) for name, each in streams}}
valid = {{name: torch.zeros(n, each["n_rows"], dtype=torch.bool) for name, each in streams}}
va = head(values, valid)["va"]  # valence and arousal of each row that a window predicts
"""
USES = (
    "It is for research on how emotion is shown in video, on data that is like its training data, "
    "by people who look at its errors first."
)
NOT_FOR = (
    "decisions about people: hiring, schooling, policing, insurance, health or credit",
    "saying what somebody feels, means or intends, or whether they lie",
    "watching people who have not agreed to it; in the European Union, inferring emotions at work "
    "and in schools is prohibited but for medical or safety reasons (Regulation (EU) 2024/1689, "
    "Article 5)",
    "other people, cameras, languages or cultures than those of the training set, unless it was "
    "measured on labelled videos of them",
)
CHOSEN_ON_VAL = (
    "The epoch whose weights were kept was chosen on the split val, so that the score of this "
    "split is too high."
)
COLUMNS = ("split", "valence", "arousal", "mean", "frames", "clips", "people")


def model_card(about: HeadDescription) -> str:
    """Return the card; it says of each fact that is not known that it is not."""
    example = EXAMPLE.format(description=EXPORTED, program=PROGRAM)
    parts = [
        f"# Model card: valence and arousal, head of kind {about.kind}",
        APPARENT,
        *_drawn(about),
        "## What it reads and returns",
        "The program reads windows of embeddings, which frozen encoders make of the pictures and "
        "the sound; they are standardised inside of it. A row with `valid` false has no input, and "
        "its values are 0.",
        _table(("stream", "rows", "width", "encoder", "sha256 of its weights"), _encoders(about)),
        _returns(about),
        f"```python\n{example}```",
        "Loading a program runs what is in it: take it only from those whom you trust.",
        "## What it was trained on",
        *_trained_on(about),
        "## Scores",
        *_scores(about),
        "## What it is for, and what not",
        USES,
        "It is not for:",
        "\n".join(f"- {text}" for text in NOT_FOR),
        PEOPLE,
        "## Licence",
        LICENCE,
        "The weights of the encoders are not in this folder, and have licences of their own.",
    ]
    return "\n\n".join(parts) + "\n"


def _drawn(about: HeadDescription) -> Iterator[str]:
    encoders = json.dumps([each.encoder for each in about.streams.values()])
    if DRAWN in encoders:
        yield DRAWN_FACES


def _encoders(about: HeadDescription) -> Iterator[tuple[str, ...]]:
    for name, each in about.streams.items():
        weights = (each.spec or {}).get("weights_sha256")
        encoder = each.encoder if isinstance(each.encoder, dict) else {}
        model = " ".join(str(encoder[key]) for key in ("kind", "model") if encoder.get(key))
        shown = f"`{weights}`" if weights else "not known"
        yield name, str(each.n_rows), str(each.width), model or each.feature_set, shown


def _returns(about: HeadDescription) -> str:
    low, high = about.label_range
    rows = "each row of a window" if about.windows == "dense" else "the last row of a window"
    smoothing = about.smoothing_s
    smoothed = (
        f" Then a moving mean over {smoothing.valence:g} s of valence and {smoothing.arousal:g} s "
        "of arousal is taken."
        if smoothing.valence or smoothing.arousal
        else ""
    )
    return (
        f"It returns valence and arousal of {rows}. Average the windows that predict a row, then "
        f"clip to [{low:g}, {high:g}].{smoothed} `{EXPORTED}` has the clock, the stride and "
        "the whole specifications of the features."
    )


def _trained_on(about: HeadDescription) -> Iterator[str]:
    facts = about.trained_on
    manifests = ", ".join(f"`{name}`" for name in facts.manifests)
    yield (
        f"{facts.n_clips or 'An unknown number of'} clips of "
        f"{facts.subjects or 'an unknown number of'} people, the split train of {manifests}."
    )
    if facts.unlabelled:
        shared = ", and some may be of the test people" if facts.transductive else ""
        yield f"Clips of `{facts.unlabelled}` were read without their labels{shared}."
    if about.label_maps:
        yield (
            f"Labels of {', '.join(about.label_maps)} were mapped to one scale, which is that of "
            f"the predictions; `{EXPORTED}` has the maps."
        )


def _scores(about: HeadDescription) -> Iterator[str]:
    if not about.scores:
        yield "It was not scored."
        return
    yield "Concordance correlation (CCC), with 95 % intervals over people:"
    yield _table(COLUMNS, [_score_row(split, each) for split, each in about.scores.items()])
    if about.trained_on.select == "val":
        yield CHOSEN_ON_VAL


def _score_row(split: str, score: SplitScore) -> tuple[str, ...]:
    return (
        split,
        _with_interval(score.ccc_valence, score.ccc_valence_low, score.ccc_valence_high),
        _with_interval(score.ccc_arousal, score.ccc_arousal_low, score.ccc_arousal_high),
        _with_interval(score.ccc_mean, score.ccc_mean_low, score.ccc_mean_high),
        *map(str, (score.n_frames, score.n_clips, score.n_subjects)),
    )


def _with_interval(value: float, low: float | None, high: float | None) -> str:
    ends = "" if low is None or high is None else f" ({low:.3f} to {high:.3f})"
    return f"{value:.3f}{ends}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
