"""`vaflow predict` on raw videos, with our own faces, against the same head on the set's own crops.

The margin of our crops is that of the crops of the training split (`framing.py`); the scored split
decides nothing. `--margin` gives another one.

    python -m benchmarks.predict_from_raw RUN FOLDER [--split val] [--margin 0.17]

RUN is a head that was trained on crops; FOLDER is for what is predicted, and kept.
"""

import argparse
import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from benchmarks.framing import landmarks_in_crops
from features.encoders.clip import ClipConfig
from features.encoders.faces import FacesConfig
from features.faces.framing import framing_of
from features.manifest.manifest import read_manifest
from features.media.alignment import AlignmentConfig
from models.metrics.intervals import paired_difference, score_intervals
from models.metrics.scores import sums_by_subject
from models.prediction.encoders import encoders_of
from models.prediction.videos import video_id
from models.runs.predictor import open_model
from models.runs.run_split import open_split, read_split
from models.stages.predict import predict

WANTED = 0.03  # CCC by which our own faces may score less


def main() -> None:
    """Print both scores and their difference; exit with 1 if it is larger than wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--margin", type=float)
    options = parser.parse_args()
    source = open_split(options.run, None, None, options.split, None)
    clips = read_manifest(source.manifest)
    margin = options.margin
    if margin is None:
        margin = round(framing_of(landmarks_in_crops(clips, "train")).margin, 2)
    print(f"faces.alignment.margin={margin}")
    crops = read_split(source, regions=False)
    scored = [clip for clip in clips.clips if clip.id in crops.packed.clip_ids and clip.video]
    videos = {clip.id: clips.path(clip.video) for clip in scored}
    faces = FacesConfig(alignment=AlignmentConfig(margin=margin))
    encoders = tuple(
        each.model_copy(update={"faces": faces}) if isinstance(each, ClipConfig) else each
        for each in encoders_of(open_model(options.run), None)
    )
    output = options.folder / f"margin{margin}"
    result = predict(
        run=options.run,
        videos=tuple(str(path) for path in videos.values()),
        output=output,
        encoders=encoders,
        store=str(options.folder / "features.zarr"),
        people="largest",
    )
    names = {video_id(each.video): each.name for each in result.videos}
    va = np.concatenate(
        [
            _rows(output / f"{names[video_id(videos[clip_id])]}.csv", span.stop - span.start)
            for clip_id, span in crops.packed.spans()
        ]
    )
    raw = replace(crops.prediction, va=va.astype(crops.prediction.va.dtype))
    subjects = source.subject_by_clip
    sums = [
        list(sums_by_subject(each, crops.packed, subjects).values())
        for each in (raw, crops.prediction)
    ]
    for name, each in zip(("our own faces", "the set's crops"), sums, strict=True):
        _print(name, score_intervals(each))
    difference = paired_difference(*sums)
    _print("difference", difference)
    if difference is None or difference.mean.value < -WANTED:
        raise SystemExit(1)


def _rows(path: Path, n_rows: int) -> Float64[np.ndarray, "N 2"]:
    """The predicted V and A; as in a training, rows beyond the last frame repeat it."""
    with path.open() as file:
        va = [(float(row["valence"]), float(row["arousal"])) for row in csv.DictReader(file)]
    return np.array(va)[np.minimum(np.arange(n_rows), len(va) - 1)]


def _print(name: str, scores: object) -> None:
    for each in ("mean", "valence", "arousal"):
        found = getattr(scores, each)
        print(f"{name:16} {each:8} {found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f})")


if __name__ == "__main__":
    main()
