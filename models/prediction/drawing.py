"""One picture of an overlay: the frame with boxes, and the valence-arousal plane beside it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from features.media.display import Image as Pixels
from models.plots.svg import LINES
from models.prediction.rows import PersonRows

LONGEST_PX = 1280  # of the frame as it is shown; a larger one is scaled down
SMALLEST_PANEL_PX, LARGEST_PANEL_PX = 180, 360
PANEL_SHARE = 0.5  # of the frame's height
MARGIN_SHARE = 0.1  # of the panel, around the plane
TRACE_S = 3.0
BACKGROUND, GRID, INK = (21, 24, 28), (64, 70, 78), (231, 234, 238)
PALE = 0.35  # of its colour that is added to a line on the dark background
EVEN = 2  # H.264 with subsampled colours needs even sizes

Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Layout:
    """Sizes in pixels; the plane is at the top of a panel at the right of the frame."""

    width: int
    """Of the frame as it is shown."""
    height: int
    panel: int
    """Width of the panel, and side of the square around the plane."""
    n_people: int

    @classmethod
    def of(cls, width: int, height: int, n_people: int) -> "Layout":
        """Return the layout for frames of this size."""
        scale = min(1.0, LONGEST_PX / max(width, height))
        shown_width, shown_height = _even(width * scale), _even(height * scale)
        panel = min(max(PANEL_SHARE * shown_height, SMALLEST_PANEL_PX), LARGEST_PANEL_PX)
        return cls(shown_width, shown_height, _even(panel), n_people)

    @property
    def font_px(self) -> int:
        """Size of the text."""
        return max(11, self.panel // 18)

    @property
    def line_px(self) -> int:
        """From one line of text to the next."""
        return round(1.5 * self.font_px)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture."""
        text_px = self.line_px * (self.n_people + 2)
        return self.width + self.panel, _even(max(self.height, self.panel + text_px))


def _even(length: int | float) -> int:
    return max(EVEN, EVEN * round(length / EVEN))


@dataclass(frozen=True, slots=True)
class Overlay:
    """Draws the frames of one video."""

    layout: Layout
    people: Sequence[PersonRows]
    region_words: Sequence[str]
    _base: Image.Image = field(init=False)
    _font: ImageFont.FreeTypeFont | ImageFont.ImageFont = field(init=False)

    def __post_init__(self) -> None:
        """Draw what is the same in every picture."""
        object.__setattr__(self, "_font", ImageFont.load_default(self.layout.font_px))
        base = Image.new("RGB", self.layout.size, BACKGROUND)
        draw = ImageDraw.Draw(base)
        for level in (-1.0, 0.0, 1.0):
            for ends in (((-1.0, level), (1.0, level)), ((level, -1.0), (level, 1.0))):
                draw.line([self._at(*end) for end in ends], GRID)
        left, top = self._at(-1.0, 1.0)
        right, bottom = self._at(1.0, -1.0)
        draw.text((left, top), "arousal", INK, self._font, "lb")
        draw.text((right, bottom), "valence", INK, self._font, "rt")
        object.__setattr__(self, "_base", base)

    def draw(self, frame: Pixels, row: int) -> Pixels:
        """Return the picture of a frame, as an array of `layout.size`."""
        picture, shown = self._base.copy(), Image.fromarray(frame)
        size = self.layout.width, self.layout.height
        if shown.size != size:
            shown = shown.resize(size, Image.Resampling.BILINEAR)
        top = (picture.height - self.layout.height) // 2
        picture.paste(shown, (0, top))
        draw = ImageDraw.Draw(picture)
        for person in self.people:
            self._draw_box(draw, person, row, (frame.shape[1], frame.shape[0]), top)
            self._draw_trace(draw, person, row)
        self._write(draw, row)
        return np.asarray(picture)

    def _at(self, valence: float, arousal: float) -> tuple[float, float]:
        """Where a point of the plane is in the picture."""
        panel = self.layout.panel
        reach = (0.5 - MARGIN_SHARE) * panel
        return self.layout.width + panel / 2 + reach * valence, panel / 2 - reach * arousal

    def _draw_box(
        self,
        draw: ImageDraw.ImageDraw,
        person: PersonRows,
        row: int,
        size: tuple[int, int],
        top: int,
    ) -> None:
        if person.boxes is None or np.isnan(person.boxes[row, 0]):
            return
        scale = np.array([self.layout.width, self.layout.height]) / size
        x, y = person.boxes[row, :2] * scale
        width, height = person.boxes[row, 2:] * scale
        corners = (x, y + top, max(x, x + width), max(y, y + height) + top)
        draw.rectangle(corners, outline=colour_of(person.number), width=2)
        draw.text((x + 4, y + top + 2), str(person.number), colour_of(person.number), self._font)

    def _draw_trace(self, draw: ImageDraw.ImageDraw, person: PersonRows, row: int) -> None:
        """Draw the last seconds, fading, and a dot; a ring if the value is interpolated."""
        now_s = float(person.time_s[row])
        first = int(np.searchsorted(person.time_s, now_s - TRACE_S))
        points = [self._at(*va) for va in person.va[first : row + 1].tolist()]
        ages_s = now_s - person.time_s[first : row + 1]
        colour = colour_of(person.number)
        for start, end, age_s in zip(points, points[1:], ages_s[1:].tolist(), strict=False):
            draw.line((start, end), _mixed(BACKGROUND, colour, 1 - age_s / TRACE_S), 2)
        radius = max(3, self.layout.panel // 50)
        fill = colour if person.valid[row] else None
        draw.circle(points[-1], radius, fill, colour, 2)

    def _write(self, draw: ImageDraw.ImageDraw, row: int) -> None:
        """Write the time, and the numbers of each person."""
        x, y = self.layout.width + 8, self.layout.panel
        for person in self.people:
            valence, arousal = person.va[row].tolist()
            text = f"{person.number}:  V {valence:+.2f}   A {arousal:+.2f}"
            draw.text((x, y), text, colour_of(person.number), self._font)
            y += self.layout.line_px
        if len(self.people) == 1 and (regions := self.people[0].regions) is not None:
            known = bool(regions.valid[row])
            best = self.region_words[int(regions.posterior[row].argmax())] if known else ""
            draw.text((x, y), best, INK, self._font)
            y += self.layout.line_px
        if self.people:
            draw.text((x, y), f"{self.people[0].time_s[row]:.2f} s", INK, self._font)


def colour_of(number: int) -> Colour:
    """The colour of a person, paler than in figures on white."""
    text = LINES[(number - 1) % len(LINES)].removeprefix("#")
    red, green, blue = bytes.fromhex(text)
    return _mixed((red, green, blue), (255, 255, 255), PALE)


def _mixed(a: Colour, b: Colour, share: float) -> Colour:
    red, green, blue = (round(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return red, green, blue
