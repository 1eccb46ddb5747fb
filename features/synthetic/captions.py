"""Captions of drawn faces and tags of synthetic voices, from which the small encoders learn.

A caption describes mouth, eyes and brows, and may have a word for the feeling that they show; a tag
describes how someone sounds. Both are chosen by what is drawn or synthesised, never by valence and
arousal.
"""

import numpy as np
from jaxtyping import Float64, Int8

from features.synthetic.expression import FACE_CUES, VOICE_CUES

CUT = 0.55  # standard deviations from which a cue is low or high


def _phrases(*levels: str) -> tuple[tuple[str, ...], ...]:
    """The phrases of each level, which are given with commas between them."""
    return tuple(tuple(level.split(", ")) if level else () for level in levels)


# For each part of the face: phrases for a low, a medium and a high cue. A medium cue without
# phrases is not mentioned.
PARTS = {
    "smile": _phrases(
        "the corners of the mouth droop, a downturned mouth, pouting lips, the mouth turned down, "
        "a sagging mouth, the lips pulled down",
        "a straight mouth, a level mouth",
        "a smile, smiling, a broad grin, the corners of the mouth curl up, beaming, an upturned "
        "mouth, a smiling mouth",
    ),
    "mouth_open": _phrases(
        "a closed mouth, lips together, the mouth shut",
        "parted lips, the mouth a little open",
        "the mouth wide open, a gaping mouth, a dropped jaw, teeth showing",
    ),
    "mouth_width": _phrases(
        "a narrow mouth, pursed lips, a small mouth",
        "",
        "a wide mouth, stretched lips, a mouth stretched sideways",
    ),
    "brow_raise": _phrases(
        "lowered eyebrows, brows sitting low, heavy brows",
        "",
        "raised eyebrows, brows up, brows lifted high, a wrinkled forehead",
    ),
    "frown": _phrases(
        "the inner ends of the brows lifted, open smooth brows, brows arched apart",
        "",
        "frowning, knitted brows, brows drawn together, furrowed brows, a scowl",
    ),
    "lids": _phrases(
        "half-closed eyes, drooping lids, narrow eyes, heavy lids, eyes nearly shut, eyes barely "
        "open",
        "",
        "wide eyes, eyes wide open, staring eyes, big round eyes, lids pulled up",
    ),
    "cheeks": _phrases(
        "flat cheeks, slack cheeks",
        "",
        "raised cheeks, crinkled eyes, smile lines under the eyes, round lifted cheeks",
    ),
}
PART_NAMES = tuple(PARTS)

# The words that a captioner has for a feeling: by the corners of the mouth (down, level, up), and
# by how closed, or open and wide, the mouth is (0 to 2).
FEELINGS = (
    _phrases(
        "sad, weary, gloomy, dejected, exhausted, sorrowful, downcast, tired, depressed, listless",
        "displeased, unhappy, annoyed, dissatisfied, sulky, grumpy, disappointed, uncomfortable, "
        "sour",
        "angry, furious, tense, enraged, hostile, outraged, afraid, anxious, stressed, irritated, "
        "alarmed, fierce, upset",
    ),
    _phrases(
        "calm, blank, drowsy, quiet, still, bored, passive, sleepy, expressionless, vacant",
        "neutral, ordinary, indifferent, unmoved, composed, matter-of-fact, thoughtful",
        "alert, attentive, surprised, awake, astonished, startled, watchful, keen, curious",
    ),
    _phrases(
        "content, relaxed, peaceful, serene, at ease, satisfied, restful, comfortable, mellow",
        "happy, pleased, glad, cheerful, friendly, warm, amused, delighted",
        "excited, joyful, thrilled, elated, ecstatic, enthusiastic, overjoyed, jubilant, eager, "
        "lively, exuberant",
    ),
)
OTHER_SHARE = 0.10  # of the words for a feeling, which are any of them
FEELING_SHARE = 0.65  # of the captions that name a feeling
PART_SHARE = 0.6  # of the parts that can be described
PART_SHARE_OF_LOOKS = 0.8  # of them, in captions that describe looks only
WRONG_SHARE = 0.02  # of the parts, described as the opposite

PEOPLE = ("someone", "a person", "a face", "a man", "a woman", "a speaker", "the person here")
HEDGES = ("", "", "", "rather ", "a bit ", "quite ", "very ", "somewhat ", "clearly ")
FEELING_FORMS = (
    "{who} who looks {how}", "{who} looking {how}", "{who} seems {how}", "{a_how} face",
    "{a_how} look", "{who} with {a_how} expression", "{how}", "feeling {how}",
    "a picture of {who} feeling {how}", "{who} appearing {how}", "the face of {who} who is {how}",
    "a photo of {a_how} person", "{a_how} person",
)  # fmt: skip
PART_FORMS = ("{who}, {parts}", "{parts}", "{who} showing {parts}", "a picture of {parts}")

# The bias of a tag's score, and its weights of the cues of a voice.
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
    "laughing voice": (-1.0, {"spread": 0.6, "pitch": 0.5, "lilt": 0.4}),
    "sigh": (-1.0, {"loudness": -0.6, "tempo": -0.5, "lilt": -0.4}),
    "crying voice": (-1.0, {"roughness": 0.6, "lilt": -0.6, "pitch": 0.3}),
    "angry voice": (-0.9, {"roughness": 0.7, "loudness": 0.6, "brightness": 0.3}),
    "calm voice": (-0.6, {"tempo": -0.5, "loudness": -0.5, "roughness": -0.3}),
    "excited voice": (-0.9, {"pitch": 0.6, "tempo": 0.5, "loudness": 0.4}),
    "tired voice": (-0.7, {"tempo": -0.6, "loudness": -0.5, "pitch": -0.3}),
    "cheerful voice": (-0.6, {"lilt": 0.7, "spread": 0.5}),
    "complaining voice": (-0.6, {"lilt": -0.6, "roughness": 0.5}),
}
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
    who = str(rng.choice(PEOPLE))
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
        form = "{parts}" if pieces else str(rng.choice(PART_FORMS))
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
    how = str(rng.choice(HEDGES)) + feeling
    a_how = ("an " if how[0] in "aeiou" else "a ") + how
    return str(rng.choice(FEELING_FORMS)).format(who=who, how=how, a_how=a_how)


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
