"""Small pictures of the frames of a split, for a report: one JPEG per clip, side by side."""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64
from PIL import Image

from features.clip import Clip, Source
from features.errors import InputError, MediaError
from features.manifest.manifest import read_manifest
from features.media.crops import CROP_NAME
from features.media.decoder import Decoder
from features.media.display import Image as Picture
from features.media.limits import DEFAULT_LIMITS
from features.media.sampling import Sampling
from features.timeline import FrameTimes
from models.data.data_sets import SEPARATOR, data_sets
from models.runs.run_split import PredictedSplit

ThumbnailsOf = Literal["crops", "all", "none"]
"""Of which clips: those with a folder of crops, all (whose videos are decoded for it), or none."""

HEIGHT_PX = 64
MAX_WIDTH_PX = 114  # 16:9
PER_CLIP = 20
PER_REPORT = 1600  # at 1 to 1.4 kB each in base64, so about 2 MB of a report
QUALITY = 55  # of the JPEG


@dataclass(frozen=True, slots=True)
class Thumbnails:
    """The pictures of one clip."""

    sheet: str
    """The JPEG as a data URI: the pictures from left to right."""
    time_s: tuple[float, ...]
    """The time of each picture."""
    width_px: int
    """Of one picture."""


def thumbnails_of(
    split: PredictedSplit, kind: ThumbnailsOf
) -> tuple[Mapping[str, Thumbnails], str]:
    """Return the thumbnails by clip, and sentences that say what is missing and why."""
    packed = split.packed
    if kind == "none":
        return {}, "No thumbnails: they were not asked for."
    sources, seen = _sources(split), packed.seen.cpu().numpy()
    n = min(PER_CLIP, max(1, PER_REPORT // max(1, len(packed.clip_ids))))
    found: dict[str, Thumbnails] = {}
    without_crops, failed = 0, []
    with closing(Decoder(DEFAULT_LIMITS)) as decoder:
        for clip, span in packed.spans():
            source, time_s = sources.get(clip), packed.time_s[span]
            try:
                if source is None:
                    raise MediaError("the manifest does not have it any more", "missing")
                if source.frames:
                    pictures = _of_crops(decoder, source, time_s, seen[span], n)
                elif kind == "all":
                    pictures = _of_video(decoder, source, time_s, n)
                else:
                    without_crops += 1
                    continue
                found[clip] = sheet_of(pictures)
            except MediaError as error:
                failed.append(str(error))
    return found, " ".join(_notes(len(packed.clip_ids), without_crops, failed))


def _notes(n_clips: int, without_crops: int, failed: Sequence[str]) -> Iterator[str]:
    if without_crops:
        yield (
            f"No thumbnails of {without_crops} of {n_clips} clips: they have no folder of face "
            "crops, and their videos are decoded only for `vaflow report RUN --thumbnails all`."
        )
    if failed:
        yield (
            f"No thumbnails of {len(failed)} of {n_clips} clips, whose media cannot be read here: "
            f"{failed[0]}{', ...' if len(failed) > 1 else ''}"
        )


def _sources(split: PredictedSplit) -> dict[str, Source]:
    """Return the media of each clip by its id in the training; none of a manifest that is gone."""
    found: dict[str, Source] = {}
    for each in data_sets(split.source.manifest, split.source.store):
        try:
            manifest = read_manifest(each.manifest)
        except InputError:
            continue
        for clip in manifest.clips:
            found[_id_in_training(each.name, clip)] = manifest.source(clip)
    return found


def _id_in_training(name: str, clip: Clip) -> str:
    return f"{name}{SEPARATOR}{clip.id}" if name else clip.id


def _of_crops(
    decoder: Decoder,
    source: Source,
    time_s: Float64[np.ndarray, "T"],
    seen: Bool[np.ndarray, "T"],
    n: int,
) -> list[tuple[float, Picture]]:
    """Return times and crops at even steps; row k is frame k + 1, after which a crop is named."""
    assert source.frames
    at = np.flatnonzero(seen)
    rows = at[np.unique(np.linspace(0, len(at) - 1, n).round().astype(int))] if len(at) else at
    paths = [(row, source.frames / f"{row + 1:05d}.jpg") for row in rows.tolist()]
    paths = [(row, path) for row, path in paths if path.is_file()]
    if not paths:
        raise MediaError(f"{source.frames} has no crops of the frames that have a face", "missing")
    assert all(CROP_NAME.fullmatch(path.name) for _, path in paths)
    small = [
        _small(image) for images in decoder.crops([path for _, path in paths]) for image in images
    ]
    return [(float(time_s[row]), image) for (row, _), image in zip(paths, small, strict=True)]


def _of_video(
    decoder: Decoder, source: Source, time_s: Float64[np.ndarray, "T"], n: int
) -> list[tuple[float, Picture]]:
    """Return times and frames at even steps; the whole video is decoded."""
    if source.video is None:
        raise MediaError(f"the clip {source.clip_id} has no video", "missing")
    span_s = max(float(time_s[-1] - time_s[0]), 1.0)
    sampling = Sampling(fps=min(max((n - 1) / span_s, 0.001), 1000.0))
    images: list[Picture] = []
    times = None
    for item in decoder.frames(source.video, source.fps, sampling):
        if isinstance(item, FrameTimes):
            times = item
        else:
            images += [_small(image) for image in item]
    assert times is not None  # the last item
    decoded_s = times.time_s[times.rows].tolist()
    at_s = [*sampling.select(zip(decoded_s, decoded_s, strict=True))]
    return [*zip(at_s, images, strict=True)][:n]


def _small(image: Picture) -> Picture:
    """Return the picture at `HEIGHT_PX`, and at most `MAX_WIDTH_PX` wide."""
    height, width = image.shape[:2]
    size = max(1, min(MAX_WIDTH_PX, round(width * HEIGHT_PX / height))), HEIGHT_PX
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))


def sheet_of(pictures: Sequence[tuple[float, Picture]]) -> Thumbnails:
    """Return the pictures in one JPEG: they share its tables, which are as large as a picture."""
    width = pictures[0][1].shape[1]
    same = [
        picture
        if picture.shape[1] == width
        else np.asarray(Image.fromarray(picture).resize((width, HEIGHT_PX)))
        for _, picture in pictures
    ]
    written = io.BytesIO()
    Image.fromarray(np.concatenate(same, axis=1)).save(
        written, "JPEG", quality=QUALITY, optimize=True
    )
    data = base64.b64encode(written.getvalue()).decode("ascii")
    return Thumbnails(f"data:image/jpeg;base64,{data}", tuple(at_s for at_s, _ in pictures), width)
