"""Writes a rendered data set with the folders and files of Aff-Wild2.

videos/{batch1,batch2,new_vids}/*.mp4, *.avi
cropped_aligned/<clip>/00001.jpg ...            (of two clips one folder deeper)
annotations/VA_Estimation_Challenge/{Train_Set,Validation_Set}/<clip>.txt
VA_test_set_sample.txt
README.txt
"""

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64
from PIL import Image

from features.errors import InputError
from features.manifest.labels import Labels, write_labels
from features.synthetic.drawn_video import DrawnVideo, draw_video
from features.synthetic.face import CROP_PX, crop_box
from features.synthetic.plan import VideoPlan, plan_set
from features.synthetic.video_writer import frame_times_s, video_file
from features.system.parallel import map_in_processes
from features.timeline import extend_times

DEFAULT_CLIPS = 40  # 24 train, 13 val, 3 test
DEFAULT_SECONDS = 17.0
DEFAULT_SEED = 7
EDITION = 2  # raised when a change of drawing, voice or plan changes what a seed gives
README_NAME = "README.txt"

ANNOTATIONS = "annotations/VA_Estimation_Challenge"
SPLIT_FOLDERS = {"train": "Train_Set", "val": "Validation_Set"}
SAMPLE_NAME = "VA_test_set_sample.txt"
DEBRIS = b"\0\0\0\1Bud1"  # the first bytes of a .DS_Store
JPEG_QUALITY = 90
GAP_FRAMES, GAPS_PER_MIN = (3, 16), 4.0
INVALID_ROWS, INVALIDS_PER_MIN = (2, 20), 4.0
BOX_JITTER_SD = 0.02  # of a face box, in half-heights of the head


def render(
    folder: Path,
    *,
    clips: int,
    seconds: float,
    seed: int,
    workers: int | None = None,
    on_clip: Callable[[int, int], None] | None = None,
) -> None:
    """Write a rendered set; `folder` appears only when the set is complete.

    `workers` is the number of processes, by default one per core; the files do not depend on it.
    `on_clip(done, clips)` is called after each video, in order. Files of a killed run in
    `<folder>.part` are removed first. Raises `InputError` if the folder exists or a number is out
    of range.
    """
    plans = plan_set(clips=clips, seconds=seconds, seed=seed)
    if folder.exists():
        raise InputError(
            f"{folder} exists, and a set needs a new folder; remove it or give another"
        )
    part = folder.with_name(folder.name + ".part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
    except OSError as error:
        raise InputError(
            f"{part} cannot be created: {error.strerror}; give another folder"
        ) from error
    try:
        write = partial(write_video, part, seed=seed)
        written = map(write, plans) if workers == 1 else map_in_processes(write, plans, workers)
        done = 0
        for plan, _ in zip(plans, written, strict=True):
            done += len(plan.levels)
            if on_clip:
                on_clip(done, clips)
        _write_sample(part, plans, seed)
        (part / README_NAME).write_text(_readme(clips, seconds, seed))
        (part / "cropped_aligned" / ".DS_Store").write_bytes(DEBRIS)
        part.rename(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def write_video(folder: Path, plan: VideoPlan, seed: int) -> None:
    """Write one video with its sound, and the crops and labels of the people in it."""
    drawn = draw_video(plan, seed)
    if plan.split != "test":
        target = folder / ANNOTATIONS / SPLIT_FOLDERS[plan.split]
        target.mkdir(parents=True, exist_ok=True)
        for name, trajectory, rng in zip(
            plan.clip_names, drawn.trajectories, drawn.label_rngs, strict=True
        ):
            va = trajectory.at(row_times_s(drawn.times_s, plan.case.excess))
            labels = Labels(va, _annotated(rng, plan, len(va)))
            write_labels(target / f"{name}.txt", labels)
    _write_frames_and_crops(drawn, folder, plan)


def row_times_s(times_s: Float64[np.ndarray, "T"], excess: int) -> Float64[np.ndarray, "N"]:
    """The time of each annotation row; there are `excess` more rows than frames."""
    return extend_times(times_s, excess) if excess > 0 else times_s[: len(times_s) + excess]


def _annotated(rng: np.random.Generator, plan: VideoPlan, n_rows: int) -> Bool[np.ndarray, "N"]:
    """Whether each row is annotated: false in a few short runs if the plan asks for it."""
    annotated = np.ones(n_rows, dtype=bool)
    if plan.case.invalid:
        for run in _runs(rng, n_rows, plan.seconds, INVALIDS_PER_MIN, INVALID_ROWS):
            annotated[run.start : run.stop] = False
    return annotated


def _runs(
    rng: np.random.Generator, n_rows: int, seconds: float, per_min: float, lengths: tuple[int, int]
) -> Iterator[range]:
    """Yield at least one run of rows; it may end beyond the last row."""
    for _ in range(max(1, int(rng.poisson(per_min * seconds / 60)))):
        start = int(rng.integers(1, n_rows))
        yield range(start, start + int(rng.integers(*lengths)))


def _write_frames_and_crops(drawn: DrawnVideo, folder: Path, plan: VideoPlan) -> None:
    rng, times_s = drawn.rng, drawn.times_s
    crop_folders = [folder / "cropped_aligned" / plan.case.nest / name for name in plan.clip_names]
    missing: list[set[int]] = []
    for crops in crop_folders:
        crops.mkdir(parents=True)
        gaps: set[int] = set()
        if plan.case.gaps:
            for run in _runs(rng, len(times_s), plan.seconds, GAPS_PER_MIN, GAP_FRAMES):
                gaps.update(run)
        missing.append(gaps)
    if plan.case.nest:
        (crop_folders[0] / ".DS_Store").write_bytes(DEBRIS)
    video_path = folder / "videos" / plan.batch / plan.file_name
    video_path.parent.mkdir(parents=True, exist_ok=True)
    with video_file(video_path, plan, drawn.sound) as write_frame:
        for row, time_s in enumerate(times_s.tolist()):
            visible = drawn.people_at(time_s)
            pixels = drawn.scene.frame(rng, time_s, visible)
            write_frame(pixels, time_s)
            image = Image.fromarray(pixels)
            for crops, gaps, (_, pose, _) in zip(crop_folders, missing, visible, strict=True):
                box = crop_box(pose, rng.normal(0, BOX_JITTER_SD, 3))
                if row not in gaps:
                    crop = image.resize(
                        (CROP_PX, CROP_PX), Image.Resampling.BILINEAR, box=_within(box, image)
                    )
                    crop.save(crops / f"{row + 1:05d}.jpg", quality=JPEG_QUALITY)


def _within(
    box: tuple[float, float, float, float], image: Image.Image
) -> tuple[float, float, float, float]:
    """The face box, moved into the image."""
    left, top, right, bottom = box
    dx = max(0.0, -left) - max(0.0, right - image.width)
    dy = max(0.0, -top) - max(0.0, bottom - image.height)
    return left + dx, top + dy, right + dx, bottom + dy


def _write_sample(folder: Path, plans: tuple[VideoPlan, ...], seed: int) -> None:
    """Write the sample submission: every frame of every test video, in order."""
    lines = ["image_location,valence,arousal"]
    for plan in plans:
        if plan.split == "test":
            n_frames = len(frame_times_s(plan, seed))
            for name in plan.clip_names:
                lines += [f"{name}/{k:05d}.jpg," for k in range(1, n_frames + 1)]
    (folder / SAMPLE_NAME).write_text("\n".join(lines) + "\n")


def is_rendered(folder: Path, *, clips: int, seconds: float, seed: int) -> bool:
    """Whether `folder` holds the set that `render` would write with these arguments."""
    readme = folder / README_NAME
    return readme.is_file() and readme.read_bytes() == _readme(clips, seconds, seed).encode()


def _readme(clips: int, seconds: float, seed: int) -> str:
    return (
        "A data set in the shape of Aff-Wild2, rendered: drawn faces and synthetic voices,\n"
        "not real people. It is for trying and testing vaflow, and says nothing about how well\n"
        "anything works on people.\n\n"
        f"    vaflow render DIR --clips {clips} --seconds {seconds:g} --seed {seed}\n\n"
        f"Edition {EDITION}: what the same numbers give changes with it.\n"
    )
