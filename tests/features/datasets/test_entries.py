"""What `index_entries` checks for every data set."""

import numpy as np

from features.datasets import dataset
from features.datasets.entries import Entry, index_entries
from features.manifest.labels import Labels


def test_negative_times_leave_a_clip_out_unless_rounding_makes_them(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"sound")

    def entry(first_s: float) -> Entry:
        time_s = np.array([first_s, 1.0])
        return Entry(tmp_path / "a.wav", Labels(np.eye(2), np.ones(2, bool), time_s))

    config = dataset("series", tmp_path)
    indexed = index_entries(
        config, tmp_path, {"early": lambda: entry(-0.5), "rounded": lambda: entry(-1e-7)}
    )
    assert [clip.id for clip in indexed.clips] == ["rounded"]
    assert "its first time is -0.5 s, negative; times count from" in indexed.left_out["early"]
