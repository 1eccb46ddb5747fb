"""Pixels of media as people have them: upright, with square pixels, in 8 bits."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image

from features.clip import Source
from features.encoders.clip import ClipConfig
from features.errors import MediaError
from features.extraction.batching import Encoded, encode_all
from features.extraction.prefetch import ReadTask
from features.media.crops import read_image
from tests.helpers.field_media import Video, displayed, draw, png_of_16_bits, steps, write_media
from tests.helpers.whole_media import read_images

pytestmark = pytest.mark.slow

N_FRAMES = 6
MATRICES = [
    (a, b, c, d)
    for a, b, c, d in product((-1, 0, 1), repeat=4)
    if abs(a * d - b * c) == 1 and abs(a) + abs(b) == abs(c) + abs(d) == 1
]
EXIF_ORIENTATION = 0x0112
# how a camera that notes this orientation stored what it saw (EXIF 2.3, table 6)
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def written(path, frames, **track):
    return write_media(path, Video(steps(len(frames)), frames=frames, **track))


def difference(some, others) -> float:
    """The mean difference of two lists of images."""
    return float(np.abs(np.array(some, np.float64) - np.array(others, np.float64)).mean())


@pytest.fixture(scope="module")
def clip_rows(tiny_clip, decoder):
    """CLIP rows of videos and of folders of crops."""
    encoder = ClipConfig(**tiny_clip).build(torch.device("cpu"))

    def rows(*paths):
        sources = [
            Source(p.name, None, p, None, 25.0)
            if p.is_dir()
            else Source(p.name, p, None, None, 25.0)
            for p in paths
        ]
        tasks = [ReadTask(index, source, ("it",)) for index, source in enumerate(sources)]
        results = encode_all({"it": encoder}, tasks, batch_sizes={"it": 8}, decoders=[decoder])
        found = {result.index: result for result in results}
        assert all(isinstance(result, Encoded) for result in found.values()), found
        return [found[k].track.values.astype(np.float64) for k in range(len(paths))]

    return rows


@pytest.mark.parametrize("matrix", MATRICES, ids=str)
def test_frames_are_shown_as_the_display_matrix_says(matrix, tmp_path):
    stored = draw(N_FRAMES)
    shown = displayed(matrix, stored)
    turned = read_images(written(tmp_path / "turned.mp4", stored, matrix=matrix))
    upright = read_images(written(tmp_path / "upright.mp4", shown))
    assert turned[0].shape == shown[0].shape
    assert difference(turned, shown) < 1.5 * difference(upright, shown) + 0.5
    others = [each for each in MATRICES if displayed(each, stored).shape == shown.shape]
    wrong = [difference(displayed(each, stored), shown) for each in others if each != matrix]
    assert difference(turned, shown) < 0.2 * min(wrong)  # the pictures tell all ways apart


def test_rows_of_turned_and_mirrored_videos_are_those_of_upright_ones(clip_rows, tmp_path):
    stored = draw(N_FRAMES)
    for k, matrix in enumerate([(0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0), (-1, 0, 0, 1)]):
        shown = displayed(matrix, stored)
        upright, again, turned, unturned = clip_rows(
            written(tmp_path / f"upright-{k}.mp4", shown),
            written(tmp_path / f"again-{k}.mp4", shown, options={"crf": "30"}),
            written(tmp_path / f"turned-{k}.mp4", stored, matrix=matrix),
            written(tmp_path / f"unturned-{k}.mp4", stored),
        )
        spread = difference(upright, again)  # of a re-encode
        assert difference(upright, turned) < 1.5 * spread
        assert difference(upright, unturned) > 3 * spread


def resized(frames, size):
    kind = Image.Resampling.BICUBIC
    return np.stack([Image.fromarray(frame).resize(size, kind) for frame in frames])


@pytest.mark.parametrize(
    ("stored_size", "pixel_aspect"), [((48, 48), Fraction(4, 3)), ((64, 36), Fraction(3, 4))]
)
def test_rows_of_pixels_that_are_not_square(stored_size, pixel_aspect, clip_rows, tmp_path):
    y, x = np.mgrid[0:48, 0:64]
    rings = 40 * (1 + np.sin(np.hypot(x - 20, y - 20) / 2))[..., None]  # ovals if stretched
    stored = resized((draw(N_FRAMES) // 2 + rings).astype(np.uint8), stored_size)
    shown = resized(stored, (64, 48))
    path = written(tmp_path / "stored.mp4", stored, pixel_aspect=pixel_aspect)
    assert read_images(path)[0].shape == shown[0].shape
    square, again, found, unstretched = clip_rows(
        written(tmp_path / "square.mp4", shown),
        written(tmp_path / "again.mp4", shown, options={"crf": "30"}),
        path,
        written(tmp_path / "unstretched.mp4", stored),
    )
    spread = difference(square, again)
    assert difference(square, found) < 1.5 * spread
    assert difference(square, unstretched) > 3 * spread


def crop(path, picture, orientation, kind="PNG"):
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    image = Image.fromarray(picture)
    stored = image if STORED[orientation] is None else image.transpose(STORED[orientation])
    stored.save(path, kind, exif=exif, **({"quality": 95} if kind == "JPEG" else {}))
    return path


@pytest.mark.parametrize("orientation", STORED)
def test_crops_are_upright_by_their_exif_orientation(orientation, tmp_path):
    picture = draw(1)[0]
    path = crop(tmp_path / "00001.jpg", picture, orientation)
    np.testing.assert_array_equal(read_image(path), picture)


def test_rows_of_turned_crops_are_those_of_upright_ones(clip_rows, tmp_path):
    folders = [tmp_path / name for name in ("upright", "turned", "lossless")]
    for folder in folders:
        folder.mkdir()
    for number, picture in enumerate(draw(N_FRAMES), 1):
        name = f"{number:05d}.jpg"
        crop(folders[0] / name, picture, 1, "JPEG")
        crop(folders[1] / name, picture, 2 + number, "JPEG")
        crop(folders[2] / name, picture, 1)
    upright, turned, lossless = clip_rows(*folders)
    assert difference(lossless, turned) < 1.5 * difference(lossless, upright)


@pytest.mark.parametrize("n_channels", [1, 2, 3, 4])
def test_of_16_bits_the_upper_8_are_kept(n_channels, tmp_path):
    rng = np.random.default_rng(0)
    samples = rng.integers(0, 2**16, (20, 30, n_channels), dtype=np.uint16)
    png_of_16_bits(tmp_path / "00001.jpg", samples)
    found = read_image(tmp_path / "00001.jpg")
    colours = samples[..., : 3 if n_channels > 2 else 1]
    np.testing.assert_array_equal(found, np.broadcast_to(colours >> 8, found.shape))


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_of_one_bit_black_and_white_are_kept(kind, tmp_path):
    bits = np.random.default_rng(0).integers(0, 2, (20, 30)).astype(bool)
    Image.fromarray(bits).save(tmp_path / "00001.jpg", kind)
    expected = np.repeat(bits[..., None] * np.uint8(255), 3, axis=2)
    np.testing.assert_array_equal(read_image(tmp_path / "00001.jpg"), expected)


def test_crops_of_16_bits_differ_in_their_rows(clip_rows, tmp_path):
    for name in ("deep", "flat"):
        (tmp_path / name).mkdir()
    for number, picture in enumerate(draw(3), 1):
        grey = picture[..., :1].astype(np.uint16)
        png_of_16_bits(tmp_path / "deep" / f"{number:05d}.jpg", grey << 8 | 0x7F)
        Image.fromarray(picture[..., 0]).save(tmp_path / "flat" / f"{number:05d}.jpg", "PNG")
    deep, flat = clip_rows(tmp_path / "deep", tmp_path / "flat")
    np.testing.assert_array_equal(deep, flat)
    assert difference(deep[0], deep[1]) > 0


def test_samples_of_32_bits_are_refused_because_their_range_is_unknown(tmp_path, monkeypatch):
    path = tmp_path / "00001.jpg"
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(path, "PNG")
    monkeypatch.setattr(
        "features.media.crops.ImageOps.exif_transpose", lambda image: image.convert("F")
    )
    with pytest.raises(MediaError, match="samples of 32 bits .mode F., whose range is not known"):
        read_image(path)
