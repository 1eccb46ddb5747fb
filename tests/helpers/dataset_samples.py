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
