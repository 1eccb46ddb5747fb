"""Small samples of data sets, in the layout in which they are distributed."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.helpers.small_media import draw_frames

N_FRAMES = 30


def write_veatic(root: Path, video: bytes, ids: tuple[int, ...] = (0, 1, 98, 99)) -> Path:
    """VEATIC: a video for each id, and ratings with a column of indices in front."""
    for folder in ("videos", "rating_averaged"):
        (root / folder).mkdir(parents=True)
    for number in ids:
        (root / "videos" / f"{number}.mp4").write_bytes(video)
        rng = np.random.default_rng(number)
        for dimension in ("valence", "arousal"):
            values = np.clip(np.cumsum(rng.normal(0, 0.05, N_FRAMES)), -1, 1)
            rows = "".join(f"{k},{value:.6f}\n" for k, value in enumerate(values))
            (root / "rating_averaged" / f"{number}_{dimension}.csv").write_text(rows)
    return root


def write_muse(root: Path, video: bytes) -> Path:
    """MuSe: a folder per dimension, times in ms, two segments with a gap, and a partition."""
    for folder in ("label_segments/valence", "label_segments/arousal", "metadata", "video"):
        (root / folder).mkdir(parents=True)
    names = {"1": "train", "2": "devel", "10": "test"}
    for number, name in enumerate(names):
        (root / "video" / f"{name}.mp4").write_bytes(video)
        for dimension, value in (("valence", 0.1), ("arousal", -0.2)):
            rows = ["timestamp,value,segment_id"]
            for k, (time_ms, segment) in enumerate([(0, 1), (250, 1), (750, 2), (1000, 2)]):
                hidden = name == "10"
                rows.append(f"{time_ms},{'' if hidden else value * (k + number)},{segment}")
            path = root / "label_segments" / dimension / f"{name}.csv"
            path.write_text("\n".join(rows) + "\n")
    rows = [f"{name},{partition}" for name, partition in names.items()]
    (root / "metadata" / "partition.csv").write_text("\n".join(["id,partition", *rows]) + "\n")
    return root


def write_sewa(root: Path, video: bytes) -> Path:
    """SEWA: a file per session with semicolons, arousal before valence, at 0.1 s."""
    (root / "labels").mkdir(parents=True)
    for name in ("Train_DE_01", "Devel_DE_02"):
        (root / f"{name}.mp4").write_bytes(video)
        rows = ["name;timestamp;arousal;valence;liking"]
        rows += [f"'{name}';{k / 10:.1f};{k / 10:.1f};{-k / 20:.2f};0" for k in range(10)]
        (root / "labels" / f"{name}.csv").write_text("\n".join(rows) + "\n")
    return root


def write_recola(root: Path, video: bytes) -> Path:
    """RECOLA: a folder per dimension, a column per rater, at 40 ms."""
    for dimension, sign in (("arousal", 1), ("valence", -1)):
        folder = root / "ratings_individual" / dimension
        folder.mkdir(parents=True)
        for name in ("P16", "P17", "P19"):
            (root / f"{name}.mp4").write_bytes(video)
            rows = ["time;FM1;FM2;FF1"]
            rows += [f"{k * 0.04:.2f};{sign * 0.1};{sign * 0.2};{sign * 0.6}" for k in range(30)]
            (folder / f"{name}.csv").write_text("\n".join(rows) + "\n")
    return root


def landmarks_68(x: float, y: float) -> list[list[float]]:
    """The 68 landmarks of iBUG, of which only eyes, nose and mouth are drawn: eyes 16 px apart."""
    points = np.full((68, 2), -99.0)
    points[36:42] = [[x - dx, y + dy] for dx in (1, 0, -1) for dy in (-1, 1)]
    points[42:48] = [[x + 16 + dx, y + dy] for dx in (1, 0, -1) for dy in (-1, 1)]
    points[30], points[48], points[54] = (x + 8, y + 9), (x + 1.5, y + 18), (x + 14.5, y + 18)
    return points.tolist()


def write_afew_va(root: Path, names: tuple[str, ...] = ("001", "002", "051")) -> Path:
    """AFEW-VA: folders of fifty clips, each with images from 00000.png on and a file of JSON."""
    for number, name in enumerate(names):
        folder = root / f"{(int(name) - 1) // 50 + 1:02d}" / name
        folder.mkdir(parents=True)
        frames = {}
        for k, picture in enumerate(draw_frames(N_FRAMES, seed=number)):
            Image.fromarray(picture).save(folder / f"{k:05d}.png")
            values = {"valence": float((k + number) % 21 - 10), "arousal": float(k % 7)}
            frames[f"{k:05d}"] = {"landmarks": landmarks_68(24 + k % 5, 28), **values}
        clip = {"video_id": name, "actor": f"Actor {number}", "frames": frames}
        (folder / f"{name}.json").write_text(json.dumps(clip))
    return root


def write_msp_conversation(
    root: Path, write_sound: Callable[[Path], object], names: tuple[str, ...] = ("0001", "0047")
) -> Path:
    """MSP-Conversation: a trace per part, dimension and rater below a header; sound alone.

    The first conversation has a recording of its only part, the second one of its two parts.
    """
    header = [*(f"%%% header {k},of the tool" for k in range(8)), "Time,Value"]
    (root / "Audio").mkdir(parents=True)
    for number, name in enumerate(names):
        conversation = f"MSP-Conversation_{name}"
        spans = [(0.0, 0.4), (0.5, 0.9)][: number + 1]
        for part, (start_s, end_s) in enumerate(spans, 1):
            for dimension in ("Arousal", "Valence", "Dominance"):
                folder = root / "Annotations" / dimension
                folder.mkdir(parents=True, exist_ok=True)
                for rater in (1, 2, 12):
                    time_s = np.arange(start_s, end_s + 0.001, 0.02)
                    values = 10 * rater * np.cos(time_s * 9) * (-1 if dimension == "Arousal" else 1)
                    extra = ",7" if (dimension, rater) == ("Dominance", 1) else ""
                    at = zip(time_s, values, strict=True)
                    rows = [f"{t:.3f},{value / 2:.4f}{extra}" for t, value in at]
                    path = folder / f"{conversation}_{part}_{rater:03d}.csv"
                    path.write_text("\n".join([*header, *rows]) + "\n")
        write_sound(root / "Audio" / f"{conversation}{'' if number else '_1'}.wav")
    (root / "Time Labels").mkdir()
    turn = {"Conversation_Part": f"MSP-Conversation_{names[0]}_1", "Start_Time": 0, "End_Time": 0.4}
    (root / "Time Labels" / "segments.json").write_text(json.dumps({"turn_1": turn}))
    return root
