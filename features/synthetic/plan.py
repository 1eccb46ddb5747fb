"""The plan of a rendered set: names, splits, and the difficult cases of Aff-Wild2.

The first videos have the cases of `CASES`, in order: a set of twelve clips has them all, a smaller
one as many as fit. The cases of the other videos are random, as frequent as in Aff-Wild2.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np

from features.clip import Split
from features.errors import InputError
from features.synthetic.random_streams import RENDERED_BRANCH, stream
from features.synthetic.trajectory import clip_levels

FEWEST_CLIPS = 2  # one for training, one for validation
SHORTEST_S, LONGEST_S = 1.0, 3600.0
TRAIN_SHARE, VAL_SHARE = 0.60, 1 / 3
PAIR_FROM = 7  # clips; a smaller set has no video of two people
LENGTH_SPREAD = 0.10  # largest relative difference of a clip from the requested duration

NTSC = Fraction(30000, 1001)
RATES = (Fraction(30), Fraction(25), NTSC)
RATE_SHARES = (0.55, 0.20, 0.25)
ROW_EXCESS = (0, 1, 2, -1)
ROW_EXCESS_SHARES = (0.389, 0.579, 0.018, 0.014)  # about as in Aff-Wild2
VARIABLE_SHARE = 0.25  # of videos whose frame rate varies
INVALID_SHARE, GAP_SHARE = 0.5, 0.7  # of clips with -5 rows, with missing crops
BATCHES = ("batch1", "batch2", "new_vids")
SIZES_PX = ((320, 240), (400, 300), (480, 270))
PAIR_SIZE_PX = (480, 270)

NameStyle = Literal["N", "N-fps-WxH", "videoN", "videoN_M"]
NAME_STYLES: tuple[NameStyle, ...] = ("N-fps-WxH", "N", "videoN", "videoN_M")
Nest = Literal["", "cropped_aligned", "batch1"]


@dataclass(frozen=True, slots=True)
class Case:
    """What is unusual about a video."""

    rate: Fraction = Fraction(30)
    variable: bool = False
    excess: int = 0
    """Annotation rows minus frames."""
    people: int = 1
    sound: bool = True
    avi: bool = False
    invalid: bool = False
    """Rows of -5."""
    gaps: bool = False
    """Crops missing."""
    nest: Nest = ""
    """Folder between cropped_aligned and the clip's crops."""
    style: NameStyle = "N"
    train_only: bool = False


CASES = (
    Case(excess=1, invalid=True, gaps=True, style="N-fps-WxH"),
    Case(rate=Fraction(25), invalid=True, gaps=True, nest="cropped_aligned"),
    Case(variable=True, excess=2, style="videoN"),
    Case(rate=NTSC, gaps=True, style="videoN_M"),
    Case(excess=-1, sound=False, style="N-fps-WxH", train_only=True),
    Case(rate=Fraction(25), avi=True, style="N-fps-WxH", nest="batch1"),
    Case(people=2, excess=1, gaps=True, style="videoN", train_only=True),
)


@dataclass(frozen=True, slots=True)
class VideoPlan:
    """One video, and the people in it."""

    index: int
    stem: str
    split: Split
    batch: str
    case: Case
    size_px: tuple[int, int]
    seconds: float
    levels: tuple[tuple[float, float], ...]
    """Mean V and A of each person, in standard deviations."""

    @property
    def clip_names(self) -> tuple[str, ...]:
        """The clips of the video: its name, or two with `_left` and `_right`."""
        suffixes = ("",) if len(self.levels) == 1 else ("_left", "_right")
        return tuple(self.stem + suffix for suffix in suffixes)

    @property
    def file_name(self) -> str:
        """The video's name in its batch folder."""
        return self.stem + (".avi" if self.case.avi else ".mp4")


def plan_set(*, clips: int, seconds: float, seed: int) -> tuple[VideoPlan, ...]:
    """The videos of a set, in order; a video of two people has two clips.

    Raises `InputError` if a number is out of range.
    """
    if clips < FEWEST_CLIPS:
        raise InputError(
            f"clips is {clips}; it must be at least {FEWEST_CLIPS}: one for training, "
            "one for validation"
        )
    if not SHORTEST_S <= seconds <= LONGEST_S:
        raise InputError(f"seconds is {seconds}; it must be from {SHORTEST_S:g} to {LONGEST_S:g}")
    rng = stream(seed, RENDERED_BRANCH, 0)
    levels = iter([(float(v), float(a)) for v, a in clip_levels(rng, clips)])
    numbers = iter(rng.permutation(np.arange(1, 10 * clips + 100)).tolist())
    plans: list[VideoPlan] = []
    for case, split in _cases_and_splits(rng, clips):
        size_px = PAIR_SIZE_PX if case.people == 2 else SIZES_PX[rng.integers(len(SIZES_PX))]
        plans.append(
            VideoPlan(
                index=len(plans),
                stem=_stem(rng, case.style, next(numbers), size_px),
                split=split,
                batch=BATCHES[rng.integers(len(BATCHES))],
                case=case,
                size_px=size_px,
                seconds=seconds * float(rng.uniform(1 - LENGTH_SPREAD, 1 + LENGTH_SPREAD)),
                levels=tuple(next(levels) for _ in range(case.people)),
            )
        )
    return tuple(plans)


def _cases_and_splits(rng: np.random.Generator, clips: int) -> Iterator[tuple[Case, Split]]:
    """Yield the case and split of each video: validation evenly spread, test last."""
    n_val = max(1, round(clips * VAL_SHARE))
    n_train = max(1, min(round(clips * TRAIN_SHARE), clips - n_val))
    fixed = [case for case in CASES if case.people == 1 or clips >= PAIR_FROM]
    done = val_done = 0
    while (remaining := n_train + n_val - done) > 0:
        case = fixed.pop(0) if fixed else _random_case(rng)
        val_due = -(-(done + case.people) * n_val // (n_train + n_val))  # rounded up
        must_train = case.train_only and remaining > n_val - val_done
        to_val = val_done < val_due and not must_train
        val_done += to_val * case.people
        done += case.people
        yield case, "val" if to_val else "train"
    for _ in range(clips - n_train - n_val):
        yield _random_case(rng), "test"


def _random_case(rng: np.random.Generator) -> Case:
    """A video of one person, with oddities as frequent as in Aff-Wild2."""
    return Case(
        rate=RATES[rng.choice(len(RATES), p=RATE_SHARES)],
        variable=bool(rng.random() < VARIABLE_SHARE),
        excess=ROW_EXCESS[rng.choice(len(ROW_EXCESS), p=ROW_EXCESS_SHARES)],
        invalid=bool(rng.random() < INVALID_SHARE),
        gaps=bool(rng.random() < GAP_SHARE),
        style=NAME_STYLES[rng.integers(len(NAME_STYLES))],
    )


def _stem(rng: np.random.Generator, style: NameStyle, number: int, size_px: tuple[int, int]) -> str:
    """A name in one of the styles of Aff-Wild2; as there, the frame rate in it may be wrong."""
    if style == "N":
        return str(number)
    if style == "N-fps-WxH":
        return f"{number}-{rng.choice((24, 25, 30, 60))}-{size_px[0]}x{size_px[1]}"
    return f"video{number}" if style == "videoN" else f"video{number}_{rng.integers(1, 9)}"
