"""The groups in which videos are predicted."""

import os
from pathlib import Path

from models.prediction import extract
from models.prediction.extract import in_groups


def test_groups_grow_until_each_reader_has_several_videos(monkeypatch):
    monkeypatch.setattr(extract, "GROUP_PER_READER", 4)
    paths = [Path(f"{number}.mp4") for number in range(35)]  # none of which exists
    groups = list(in_groups(paths, n_readers=2))
    assert [len(group) for group in groups] == [2, 4, 8, 8, 8, 5]
    assert [path for group in groups for path in group] == paths


def test_a_group_of_large_videos_has_one_for_each_reader(tmp_path, monkeypatch):
    monkeypatch.setattr(extract, "GROUP_BYTES", 1000)
    paths = [tmp_path / f"{number}.mp4" for number in range(12)]
    for number, path in enumerate(paths):
        path.touch()
        os.truncate(path, 600 if 3 <= number < 9 else 10)
    names = [[int(path.stem) for path in group] for group in in_groups(paths, n_readers=3)]
    assert names == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]
