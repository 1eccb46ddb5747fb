"""What each face detector finds and how long it takes, and whether crossing people keep identities.

On photographs, whose faces are counted; on a rendered set, where box and landmarks of each face are
known exactly; and on drawn people who walk past each other, where it is known who is who.

    python -m benchmarks.faces [--quick] [--json FILE] [--retinaface FILE]

RetinaFace is measured if its weights are given (features/faces/convert_retinaface.py).
"""

import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from benchmarks.helpers.identities import Identities, faces_of, identities
from benchmarks.helpers.pictures import photographs
from benchmarks.helpers.timing import Report, Seconds, arguments, in_turns
from features.encoders.faces import FacesConfig
from features.faces.detector import Detector, DetectorConfig, Faces
from features.faces.retinaface import RetinaFaceConfig
from features.faces.tracker import overlaps
from features.faces.yunet import YuNetConfig
from features.media.decoder import Decoder
from features.media.limits import DEFAULT_LIMITS
from features.synthetic.crossing import draw_crossing
from features.synthetic.dataset_writer import render
from features.synthetic.drawn_video import TrueFaces, draw_video
from features.synthetic.plan import plan_set

FOLDER = Path("data/benchmarks/faces")
CLIPS, SECONDS, SEED = 8, 6.0, 101
EVERY = 6  # frames of a rendered video
MIN_OVERLAP = 0.3  # intersection over union of a found face and a true one
FACING = 0.5  # a face that is turned farther away need not be found
MIRRORED = [1, 0, 2, 4, 3]  # the landmarks of a mirrored face
CROSSING_S = 10.0
WANTED = 0.95  # of the faces of crossing people that are found, those with the right identity

Picture = UInt8[np.ndarray, "H W 3"]


@dataclass(slots=True)
class Found:
    """What a detector found of faces whose place is known."""

    n_true: int = 0
    n_found: int = 0
    n_false: int = 0
    error: float = 0.0
    """Sum of the mean landmark errors, in distances between the eyes."""
    n_measured: int = 0

    def add(self, faces: Faces, truth: TrueFaces, frame: int) -> None:
        """Count the faces of a frame; landmarks where neither head nor hand hides any."""
        overlap = overlaps(truth.boxes_px[frame], faces.boxes_px.astype(np.float64))
        hits = overlap >= MIN_OVERLAP
        self.n_false += int((~hits.any(0)).sum())
        for person, is_hit in enumerate(hits.any(1).tolist()):
            turned, hand = truth.turned[frame, person], truth.hand[frame, person]
            if turned >= FACING:
                continue
            self.n_true += 1
            self.n_found += is_hit
            if is_hit and turned == hand == 0:
                landmarks = faces.landmarks_px[overlap[person].argmax()]
                self.error += _error(landmarks, truth.landmarks_px[frame, person])
                self.n_measured += 1


def main() -> None:
    """Measure, print, and exit with 1 if too many identities are mistaken."""
    options = arguments(__doc__, retinaface={"type": Path, "metavar": "FILE"})
    torch.set_num_threads(1)
    configs: list[DetectorConfig] = [YuNetConfig()]
    if options.retinaface:
        configs.append(RetinaFaceConfig(weights=options.retinaface))
    detectors = {config.kind: config.build() for config in configs}
    report = Report()
    try:
        on_photographs(report, detectors)
    except subprocess.CalledProcessError as error:
        print(f"no photographs: {error}")
    frames = on_rendered(report, detectors)
    time_per_frame(report, detectors, frames, n_rounds=2 if options.quick else 5)
    share = on_crossings(report, n_seeds=2 if options.quick else 5)
    report.write(options.json)
    if share < WANTED:
        raise SystemExit(1)


def on_photographs(report: Report, detectors: dict[str, Detector]) -> None:
    """Faces found and false alarms by number; landmarks against those of the mirrored picture."""
    pictures = list(photographs())
    report.numbers["photographs_faces"] = sum(n for _, n in pictures)
    for kind, detector in detectors.items():
        missed = false = 0
        errors: list[float] = []
        for picture, n_faces in pictures:
            faces = detector.detect(picture)
            missed += max(0, n_faces - len(faces))
            false += max(0, len(faces) - n_faces)
            errors += _mirror_errors(faces, detector.detect(picture[:, ::-1]), picture.shape[1])
        report.numbers[f"photographs_{kind}_missed"] = missed
        report.numbers[f"photographs_{kind}_false"] = false
        report.numbers[f"photographs_{kind}_mirror_error"] = float(np.median(errors))


def on_rendered(report: Report, detectors: dict[str, Detector]) -> list[Picture]:
    """Recall, false alarms and landmark error in rendered videos; returns some frames of them."""
    folder = FOLDER / f"set-{CLIPS}-{SECONDS:g}-{SEED}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        render(folder, clips=CLIPS, seconds=SECONDS, seed=SEED)
    found = {kind: Found() for kind in detectors}
    kept: list[Picture] = []
    with closing(Decoder(DEFAULT_LIMITS)) as decoder:
        for plan in plan_set(clips=CLIPS, seconds=SECONDS, seed=SEED):
            truth = draw_video(plan, SEED).true_faces()
            frame = 0
            for piece in decoder.frames(folder / "videos" / plan.batch / plan.file_name, None):
                for image in piece if isinstance(piece, list) else ():
                    if frame % EVERY == 0:
                        for kind, detector in detectors.items():
                            found[kind].add(detector.detect(image), truth, frame)
                    if frame == 0:
                        kept.append(image.copy())  # the memory is the decoder's
                    frame += 1
            assert frame == len(truth.boxes_px)
    for kind, each in found.items():
        report.numbers["rendered_faces"] = each.n_true
        report.numbers[f"rendered_{kind}_recall"] = each.n_found / each.n_true
        report.numbers[f"rendered_{kind}_false"] = each.n_false
        report.numbers[f"rendered_{kind}_landmark_error"] = each.error / each.n_measured
    return kept


def time_per_frame(
    report: Report, detectors: dict[str, Detector], frames: Sequence[Picture], n_rounds: int
) -> None:
    """Milliseconds of a core per frame, detectors in turns."""

    def detect_all(detector: Detector) -> Seconds:
        began_s = time.process_time()
        for frame in frames:
            detector.detect(frame)
        return Seconds(time.process_time() - began_s)

    ways: dict[str, Callable[[], object]] = {
        kind: partial(detect_all, detector) for kind, detector in detectors.items()
    }
    detect_all(detectors["yunet"])
    times_s = in_turns(ways, n_rounds)
    medians = {kind: float(np.median(runs)) for kind, runs in times_s.items()}
    for kind, seconds in medians.items():
        report.numbers[f"{kind}_ms_per_frame"] = 1e3 * seconds / len(frames)
        if kind != "yunet":
            report.ratios[f"{kind}_time_over_yunet"] = seconds / medians["yunet"]


def on_crossings(report: Report, n_seeds: int) -> float:
    """The share of found faces with the right identity, for the default configuration."""
    whole = Identities()
    for n_people in (2, 3):
        total = Identities()
        for seed in range(n_seeds):
            frames = list(draw_crossing(seed, n_people, CROSSING_S))
            record = faces_of(FacesConfig(), [frame.image for frame in frames])
            total += identities(frames, record)
        report.numbers[f"crossing_{n_people}_found"] = total.n_found / total.n_visible
        report.numbers[f"crossing_{n_people}_right"] = total.n_right / total.n_found
        whole += total
    report.numbers["crossing_right"] = whole.n_right / whole.n_found
    return whole.n_right / whole.n_found


def _mirror_errors(faces: Faces, mirrored: Faces, width_px: int) -> list[float]:
    """How far the landmarks of each face lie from those found in the mirrored picture."""
    back = mirrored.landmarks_px[:, MIRRORED].copy()
    back[..., 0] = width_px - 1 - back[..., 0]
    return [
        min(_error(one, np.float64(other)) for other in back) for one in faces.landmarks_px
    ] if len(back) else []  # fmt: skip


def _error(landmarks: np.ndarray, truth: np.ndarray) -> float:
    """The mean distance of landmarks, in distances between the eyes."""
    eyes_px = np.linalg.norm(truth[0] - truth[1])
    return float(np.linalg.norm(landmarks - truth, axis=1).mean() / eyes_px)


if __name__ == "__main__":
    main()
