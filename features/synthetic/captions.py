"""Captions of drawn faces and tags of synthetic voices, from which the small encoders learn.

A caption describes mouth, eyes and brows, and may have a word for the feeling that they show; a tag
describes how someone sounds. Both are chosen by what is drawn or synthesised, never by valence and
arousal.
"""

from pathlib import Path

import numpy as np
import yaml
from jaxtyping import Float64, Int8

from features.synthetic.expression import FACE_CUES, VOICE_CUES

CUT = 0.55  # standard deviations from which a cue is low or high
OTHER_SHARE = 0.10  # of the words for a feeling, which are any of them
FEELING_SHARE = 0.65  # of the captions that name a feeling
PART_SHARE = 0.6  # of the parts that can be described
PART_SHARE_OF_LOOKS = 0.8  # of them, in captions that describe looks only
WRONG_SHARE = 0.02  # of the parts, described as the opposite

WORDS = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
PARTS: dict[str, list[list[str]]] = WORDS["parts"]
PART_NAMES = tuple(PARTS)
FEELINGS: list[list[list[str]]] = WORDS["feelings"]
VOICE_TAGS: dict[str, tuple[float, dict[str, float]]] = WORDS["voice_tags"]
TAGS = ("speech", "silence", "music", *VOICE_TAGS)


def part_levels(
    cues: Float64[np.ndarray, "F"], jaw_open: float, open_share: float
) -> Int8[np.ndarray, "P"]:
    """The level of each part, 0 low to 2 high, including the effect of speech and blinking."""
    cue = dict(zip(FACE_CUES, cues.tolist(), strict=True))
    cue["mouth_open"] = (jaw_open - 0.25) / 0.25
    cue["lids"] = cue["lids"] if open_share > 0.6 else -2.0
    values = np.array([cue[name] for name in PART_NAMES])
    return ((values > -CUT).astype(np.int8) + (values > CUT)).astype(np.int8)


def write_caption(
    rng: np.random.Generator, levels: Int8[np.ndarray, "P"], *, feelings: bool = True
) -> str:
    """A random caption of a face: some of its parts, a word for the feeling, or both.

    Without `feelings`, parts only.
    """
    who = str(rng.choice(WORDS["people"]))
    names_feeling = feelings and rng.random() < FEELING_SHARE
    pieces = [_feeling_text(rng, who, name_feeling(rng, levels))] if names_feeling else []
    phrases, part_share = [], PART_SHARE if feelings else PART_SHARE_OF_LOOKS
    for part, name in enumerate(PART_NAMES):
        level = levels[part] if rng.random() > WRONG_SHARE else 2 - levels[part]
        if PARTS[name][level] and rng.random() < part_share:
            phrases.append(str(rng.choice(PARTS[name][level])))
    if phrases:
        rng.shuffle(phrases)
        parts = " and ".join([", ".join(phrases[:-1]), phrases[-1]] if phrases[1:] else phrases)
        form = "{parts}" if pieces else str(rng.choice(WORDS["part_forms"]))
        pieces.append(form.format(who=who, parts=parts))
    return ", ".join(pieces) or f"a picture of {who}"


def name_feeling(rng: np.random.Generator, levels: Int8[np.ndarray, "P"]) -> str:
    """The word that a captioner chooses for a face, going by the mouth alone.

    Corners that are up or down say whether someone is pleased, and a mouth that is open or wide
    says that someone is lively. Some words are chosen at random.
    """
    level = dict(zip(PART_NAMES, levels.tolist(), strict=True))
    openness = level["mouth_open"] + level["mouth_width"]  # 0 to 4
    corners, openness = level["smile"], (openness >= 2) + (openness >= 3)
    if rng.random() < OTHER_SHARE:
        corners, openness = rng.integers(3, size=2)
    return str(rng.choice(FEELINGS[corners][openness]))


def _feeling_text(rng: np.random.Generator, who: str, feeling: str) -> str:
    how = str(rng.choice(WORDS["hedges"])) + feeling
    a_how = ("an " if how[0] in "aeiou" else "a ") + how
    return str(rng.choice(WORDS["feeling_forms"])).format(who=who, how=how, a_how=a_how)


def tag_scores(
    cues: Float64[np.ndarray, "T G"], voiced: Float64[np.ndarray, "T"], *, music: bool
) -> Float64[np.ndarray, "T K"]:
    """The score of each tag of `TAGS` at each step: positive if it fits."""
    columns = dict(zip(VOICE_CUES, cues.T, strict=True))
    speaking = np.where(voiced > 0.15, 0.0, -1.5)
    scores = [
        np.where(voiced > 0.15, 2.0, -2.0),
        np.where(voiced > 0.05, -2.0, 2.0),
        np.full(len(cues), 2.0 if music else -2.0),
    ]
    for bias, weights in VOICE_TAGS.values():
        fit = sum(weight * columns[name] for name, weight in weights.items())
        scores.append(fit + bias + speaking)
    return np.stack(scores, axis=1)
