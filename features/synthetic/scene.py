"""The scene around the faces: background, light and camera, one frame at a time."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int16, UInt8
from PIL import Image, ImageDraw, ImageFilter

from features.synthetic.drawing import SUPERSAMPLE, Pose
from features.synthetic.face import Look, draw_person
from features.synthetic.identity import Face
from features.synthetic.trajectory import GRID_HZ, grid_steps, smooth_noise

LIGHT_SD = 0.10  # of brightness over a clip: never a function of V or A
LIGHT_TAU_S = 2.0
TINT = 0.06  # largest relative change of a colour channel by the lamp
SIDE_LIGHT = 0.35  # largest relative change of light across the image
CAMERA_SD = (1.0, 4.0)  # grey levels of the sensor's noise
BANK_PX = 48  # the noise is cut from a larger piece at a new place in each frame
SPAN_HALF_HEIGHTS = 1.9  # half the width of the region that is redrawn in each frame


@dataclass(frozen=True, slots=True)
class Scene:
    """What stays constant over one clip, and the variation of its light."""

    backdrop: Image.Image
    """At `SUPERSAMPLE` times the size of the image."""
    still: Image.Image
    light: Float32[np.ndarray, "H W 3"]
    level: Float64[np.ndarray, "T"]
    """Brightness on the grid."""
    noise: Int16[np.ndarray, "H2 W2 3"]
    homes_px: tuple[tuple[float, float], ...]
    """Resting position of each head, from left to right."""
    half_heights_px: tuple[float, ...]

    def frame(
        self, rng: np.random.Generator, time_s: float, people: tuple[tuple[Face, Pose, Look], ...]
    ) -> UInt8[np.ndarray, "H W 3"]:
        """Return the frame at a time, with all people in it."""
        picture = self.still.copy()
        for (face, pose, look), home_px in zip(people, self.homes_px, strict=True):
            left = max(0, int(home_px[0] - SPAN_HALF_HEIGHTS * pose.half_height_px))
            right = min(picture.width, int(home_px[0] + SPAN_HALF_HEIGHTS * pose.half_height_px))
            if len(people) > 1:  # each person in their own half
                middle = picture.width // 2
                left, right = (left, min(right, middle)) if home_px[0] < middle else (
                    max(left, middle), right)  # fmt: skip
            box = (left * SUPERSAMPLE, 0, right * SUPERSAMPLE, picture.height * SUPERSAMPLE)
            canvas = self.backdrop.crop(box)
            draw_person(canvas, (float(left), 0.0), face, pose, look)
            picture.paste(canvas.reduce(SUPERSAMPLE), (left, 0))
        return self.photograph(rng, time_s, picture)

    def photograph(
        self, rng: np.random.Generator, time_s: float, picture: Image.Image
    ) -> UInt8[np.ndarray, "H W 3"]:
        """Return a picture in the light of that time, with the noise of the camera."""
        level = self.level[min(round(time_s * GRID_HZ), len(self.level) - 1)]
        y, x = rng.integers(0, BANK_PX, 2).tolist()
        lit = np.asarray(picture) * (self.light * np.float32(level))
        lit += self.noise[y : y + picture.height, x : x + picture.width]
        return np.clip(lit, 0, 255, out=lit).astype(np.uint8)


def draw_scene(
    rng: np.random.Generator, size_px: tuple[int, int], n_people: int, seconds: float
) -> Scene:
    """Return a random room with its light and camera."""
    width, height = size_px
    backdrop = _backdrop(rng, width * SUPERSAMPLE, height * SUPERSAMPLE)
    across = np.linspace(-0.5, 0.5, width) * rng.uniform(-SIDE_LIGHT, SIDE_LIGHT)
    down = np.linspace(-0.5, 0.5, height) * rng.uniform(-SIDE_LIGHT, SIDE_LIGHT) / 2
    lamp = rng.uniform(0.78, 1.08) * rng.uniform(1 - TINT, 1 + TINT, 3)
    light = lamp * (1 + across[None, :, None] + down[:, None, None])
    level = 1 + LIGHT_SD * smooth_noise(rng, grid_steps(seconds), LIGHT_TAU_S)
    noise = rng.normal(0, rng.uniform(*CAMERA_SD), (height + BANK_PX, width + BANK_PX, 3))
    half_heights = rng.uniform(0.24, 0.29, n_people) * min(height, 270)
    homes = [
        (
            width * (2 * k + 1) / (2 * n_people) + float(rng.normal(0, 0.01 * width)),
            height * float(rng.uniform(0.46, 0.50)),
        )
        for k in range(n_people)
    ]
    return Scene(
        backdrop=backdrop,
        still=backdrop.reduce(SUPERSAMPLE),
        light=light.astype(np.float32),
        level=np.clip(level, 0.7, 1.3),
        noise=noise.astype(np.int16),
        homes_px=tuple(homes),
        half_heights_px=tuple(half_heights.tolist()),
    )


def _muted(rng: np.random.Generator) -> Float64[np.ndarray, "3"]:
    grey = rng.uniform(50, 205)
    return np.clip(grey + rng.normal(0, 22, 3), 20, 235)


def _backdrop(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Return a wall with a few objects in front of it, out of focus."""
    top, bottom = _muted(rng), _muted(rng)
    ramp = np.linspace(0, 1, height)[:, None, None]
    wall = np.broadcast_to(top * (1 - ramp) + bottom * ramp, (height, width, 3))
    picture = Image.fromarray(wall.astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(2, 7))):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        w, h = rng.uniform(0.05, 0.3) * width, rng.uniform(0.1, 0.6) * height
        red, green, blue = _muted(rng).astype(int).tolist()
        draw.rectangle((x, y, x + w, y + h), fill=(red, green, blue))
    return picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(4, 14))))
