"""Small samples of data sets, in the layout in which they are distributed."""

from pathlib import Path

import numpy as np

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
