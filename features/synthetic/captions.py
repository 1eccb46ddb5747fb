"""Captions of drawn faces and tags of synthetic voices, from which the small encoders learn.

A caption describes mouth, eyes and brows, or how someone looks; a tag describes how someone sounds.
Neither names a coordinate. Each adjective has a point in the V/A plane, in standard deviations, and
is chosen for feelings near it; the points are our own judgement.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int8

from features.synthetic.expression import FACE_CUES, VOICE_CUES

CUT = 0.55  # standard deviations from which a cue is low or high
UNSAID = -1

# For each part of the face: phrases for a low, a medium and a high cue. A medium cue without
# phrases is not mentioned.
PARTS: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "smile": (
        (
            "the corners of the mouth droop", "a downturned mouth", "pouting lips",
            "the mouth turned down", "a sagging mouth", "the lips pulled down",
        ),
        ("a straight mouth", "a level mouth"),
        (
            "a smile", "smiling", "a broad grin", "the corners of the mouth curl up",
            "beaming", "an upturned mouth", "a smiling mouth",
        ),
    ),
    "mouth_open": (
        ("a closed mouth", "lips together", "the mouth shut"),
        ("parted lips", "the mouth a little open"),
        ("the mouth wide open", "a gaping mouth", "a dropped jaw", "teeth showing"),
    ),
    "mouth_width": (
        ("a narrow mouth", "pursed lips", "a small mouth"),
        (),
        ("a wide mouth", "stretched lips", "a mouth stretched sideways"),
    ),
    "brow_raise": (
        ("lowered eyebrows", "brows sitting low", "heavy brows"),
        (),
        ("raised eyebrows", "brows up", "brows lifted high", "a wrinkled forehead"),
    ),
    "frown": (
        ("the inner ends of the brows lifted", "open smooth brows", "brows arched apart"),
        (),
        ("frowning", "knitted brows", "brows drawn together", "furrowed brows", "a scowl"),
    ),
    "lids": (
        (
            "half-closed eyes", "drooping lids", "narrow eyes", "heavy lids", "sleepy eyes",
            "eyes barely open",
        ),
        (),
        ("wide eyes", "eyes wide open", "staring eyes", "big round eyes", "lids pulled up"),
    ),
    "cheeks": (
        ("flat cheeks", "slack cheeks"),
        (),
        ("raised cheeks", "crinkled eyes", "smile lines under the eyes", "round lifted cheeks"),
    ),
}  # fmt: skip
PART_NAMES = tuple(PARTS)

FEELINGS: dict[str, tuple[float, float]] = {
    "sad": (-1.6, -1.2), "weary": (-1.0, -1.9), "gloomy": (-1.5, -1.3), "dejected": (-1.7, -1.1),
    "exhausted": (-1.1, -2.1), "sorrowful": (-1.8, -0.9), "downcast": (-1.4, -1.2),
    "tired": (-0.7, -1.9), "depressed": (-1.7, -1.5), "listless": (-0.9, -1.8),
    "displeased": (-1.4, 0.0), "unhappy": (-1.6, -0.4), "annoyed": (-1.3, 0.6),
    "dissatisfied": (-1.2, -0.1), "sulky": (-1.3, -0.4), "grumpy": (-1.3, 0.2),
    "disappointed": (-1.4, -0.6), "uncomfortable": (-1.0, 0.3), "sour": (-1.2, 0.0),
    "angry": (-1.7, 1.6), "furious": (-1.9, 2.1), "tense": (-1.0, 1.3), "enraged": (-2.0, 2.2),
    "hostile": (-1.7, 1.3), "outraged": (-1.8, 1.8), "afraid": (-1.4, 1.7),
    "anxious": (-1.1, 1.3), "stressed": (-1.2, 1.2), "irritated": (-1.4, 1.0),
    "alarmed": (-0.9, 1.8), "fierce": (-1.3, 1.6), "upset": (-1.5, 0.9),
    "calm": (0.3, -1.6), "blank": (-0.1, -1.4), "drowsy": (-0.1, -2.0), "quiet": (0.1, -1.5),
    "still": (0.0, -1.4), "bored": (-0.6, -1.5), "passive": (-0.2, -1.5), "sleepy": (0.0, -2.1),
    "expressionless": (-0.1, -1.2), "vacant": (-0.2, -1.6),
    "neutral": (0.0, 0.0), "ordinary": (0.1, 0.0), "indifferent": (-0.3, -0.5),
    "unmoved": (-0.1, -0.4), "composed": (0.2, -0.5), "matter-of-fact": (0.0, 0.1),
    "thoughtful": (0.0, -0.3),
    "alert": (0.2, 1.3), "attentive": (0.3, 0.9), "surprised": (0.1, 1.8), "awake": (0.2, 1.1),
    "astonished": (0.2, 2.0), "startled": (-0.3, 1.9), "watchful": (-0.1, 1.1),
    "keen": (0.6, 1.1), "curious": (0.5, 0.9),
    "content": (1.2, -1.0), "relaxed": (1.0, -1.5), "peaceful": (1.1, -1.6),
    "serene": (1.2, -1.5), "at ease": (0.9, -1.2), "satisfied": (1.3, -0.7),
    "restful": (0.8, -1.7), "comfortable": (1.0, -0.9), "mellow": (0.9, -1.4),
    "happy": (1.6, 0.3), "pleased": (1.3, 0.1), "glad": (1.4, 0.2), "cheerful": (1.6, 0.5),
    "friendly": (1.3, 0.1), "warm": (1.2, -0.2), "amused": (1.4, 0.5), "delighted": (1.8, 0.9),
    "excited": (1.4, 1.7), "joyful": (1.8, 1.3), "thrilled": (1.8, 1.8), "elated": (1.9, 1.6),
    "ecstatic": (2.0, 2.0), "enthusiastic": (1.5, 1.5), "overjoyed": (2.0, 1.6),
    "jubilant": (1.9, 1.7), "eager": (1.0, 1.4), "lively": (1.1, 1.3), "exuberant": (1.7, 1.8),
}  # fmt: skip
FEELING_NAMES = tuple(FEELINGS)
FEELING_VA = np.array(list(FEELINGS.values()))  # (N, 2)
FEELING_SD = 0.45  # scale of the distance between a feeling and the word that is chosen for it
WRONG_SHARE = 0.06  # of captions, with one wrong claim

PEOPLE = ("someone", "a person", "a face", "a man", "a woman", "a speaker", "the person here")
HEDGES = ("", "", "", "rather ", "a bit ", "quite ", "very ", "somewhat ", "clearly ")
FEELING_FORMS = (
    "{who} who looks {how}", "{who} looking {how}", "{who} seems {how}", "{a_how} face",
    "{a_how} look", "{who} with {a_how} expression", "{how}", "feeling {how}",
    "a picture of {who} feeling {how}", "{who} appearing {how}", "the face of {who} who is {how}",
    "a photo of {a_how} person", "{a_how} person",
)  # fmt: skip
PART_FORMS = ("{who}, {parts}", "{parts}", "{who} showing {parts}", "a picture of {parts}")

# The bias of a tag's score, and its weights of the cues of a voice, and of V and A.
VOICE_TAGS: dict[str, tuple[float, dict[str, float]]] = {
    "shouting": (-1.2, {"loudness": 1, "brightness": 0.4}),
    "loud voice": (-0.3, {"loudness": 1}),
    "soft voice": (-0.3, {"loudness": -1}),
    "whispering": (-1.2, {"loudness": -1, "brightness": -0.4}),
    "high voice": (-0.3, {"pitch": 1}),
    "low voice": (-0.3, {"pitch": -1}),
    "fast speech": (-0.3, {"tempo": 1}),
    "slow speech": (-0.3, {"tempo": -1}),
    "drawl": (-0.9, {"tempo": -1, "lilt": -0.4}),
    "bright voice": (-0.3, {"brightness": 1}),
    "dull voice": (-0.3, {"brightness": -1}),
    "growling": (-0.3, {"roughness": 1}),
    "clear voice": (-0.2, {"roughness": -1}),
    "lilting voice": (-0.3, {"lilt": 1}),
    "flat voice": (-0.2, {"lilt": -1}),
    "smiling voice": (-0.3, {"spread": 1}),
    "laughing voice": (-1.0, {"valence": 0.7, "arousal": 0.5}),
    "sigh": (-1.0, {"valence": -0.5, "arousal": -0.7}),
    "crying voice": (-1.0, {"valence": -0.9}),
    "angry voice": (-0.9, {"valence": -0.7, "arousal": 0.7}),
    "calm voice": (-0.6, {"valence": 0.3, "arousal": -0.8}),
    "excited voice": (-0.9, {"valence": 0.5, "arousal": 0.8}),
    "tired voice": (-0.7, {"valence": -0.3, "arousal": -0.9}),
    "cheerful voice": (-0.6, {"valence": 0.9, "arousal": 0.2}),
    "complaining voice": (-0.6, {"valence": -0.9, "arousal": 0.2}),
}
TAGS = ("speech", "silence", "music", *VOICE_TAGS)


@dataclass(frozen=True, slots=True)
class Caption:
    """The caption of one face, with the claims it makes."""

    text: str
    claims: Int8[np.ndarray, "P"]
    """Level 0, 1 or 2 of each part, or UNSAID."""
    feeling: int
    """Index into FEELING_NAMES, or UNSAID."""


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
    rng: np.random.Generator, levels: Int8[np.ndarray, "P"], felt_va: Float64[np.ndarray, "2"]
) -> Caption:
    """A random caption of a face: the feeling, some parts, or both."""
    claims = np.full(len(PART_NAMES), UNSAID, dtype=np.int8)
    feeling, pieces = UNSAID, []
    who = str(rng.choice(PEOPLE))
    if rng.random() < 0.65:
        distance = ((FEELING_VA - felt_va) ** 2).sum(axis=1)
        weight = np.exp(-(distance - distance.min()) / (2 * FEELING_SD**2))
        feeling = int(rng.choice(len(FEELING_NAMES), p=weight / weight.sum()))
        pieces.append(_feeling_text(rng, who, FEELING_NAMES[feeling]))
    candidates = [part for part, name in enumerate(PART_NAMES) if PARTS[name][levels[part]]]
    n_parts = int(rng.integers(1, 4)) if feeling == UNSAID else int(rng.integers(0, 3))
    n_parts = min(n_parts, len(candidates))
    if n_parts:
        phrases = []
        for part in rng.permutation(candidates)[:n_parts].tolist():
            claims[part] = levels[part]
            if rng.random() < WRONG_SHARE / n_parts:
                claims[part] = 2 - levels[part]
            phrases.append(str(rng.choice(PARTS[PART_NAMES[part]][claims[part]] or ("a face",))))
        parts = " and ".join([", ".join(phrases[:-1]), phrases[-1]] if n_parts > 1 else phrases)
        form = "{parts}" if pieces else str(rng.choice(PART_FORMS))
        pieces.append(form.format(who=who, parts=parts))
    if not pieces:
        pieces.append(_feeling_text(rng, who, "ordinary"))
    return Caption(text=", ".join(pieces), claims=claims, feeling=feeling)


def _feeling_text(rng: np.random.Generator, who: str, feeling: str) -> str:
    how = str(rng.choice(HEDGES)) + feeling
    a_how = ("an " if how[0] in "aeiou" else "a ") + how
    return str(rng.choice(FEELING_FORMS)).format(who=who, how=how, a_how=a_how)


def tag_scores(
    cues: Float64[np.ndarray, "T G"],
    felt_va: Float64[np.ndarray, "T 2"],
    voiced: Float64[np.ndarray, "T"],
    *,
    music: bool,
) -> Float64[np.ndarray, "T K"]:
    """The score of each tag of `TAGS` at each step: positive if it fits."""
    names = (*VOICE_CUES, "valence", "arousal")
    columns = dict(zip(names, (*cues.T, *felt_va.T), strict=True))
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
