"""Statistics that are kept beside packed features."""

import json
from pathlib import Path

import pytest
import torch

from features.manifest.manifest import read_manifest
from models.data import kept_statistics as module
from models.data.feature_sets import open_sets
from models.data.kept_statistics import kept_statistics
from models.data.packed import PackedFeatures
from models.data.packed_cache import load_packed
from models.data.splits import read_all_labels
from models.data.statistics import Statistics, statistics
from tests.helpers.synthetic import plant


@pytest.fixture
def rows(tmp_path) -> PackedFeatures:
    planted = plant(tmp_path, ("train", "train", "val"))
    clips = read_manifest(planted.manifest).clips
    labels = read_all_labels(read_manifest(planted.manifest), clips, required=True)
    packed = load_packed(open_sets(planted.store), labels)
    return packed.select(packed.clip_ids[:2])


def computed(rows: PackedFeatures) -> dict[str, Statistics]:
    return {name: statistics(s.values, s.valid, rows.index) for name, s in rows.streams.items()}


def same(one: dict[str, Statistics], other: dict[str, Statistics]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(one[name].mean, other[name].mean)
        and torch.equal(one[name].std, other[name].std)
        for name in one
    )


def files(rows: PackedFeatures) -> list[Path]:
    assert rows.bank
    return sorted(rows.bank.folder.glob("statistics-*"))


def test_they_are_computed_once_and_have_the_same_digits(rows, monkeypatch):
    expected = computed(rows)
    assert same(kept_statistics(rows), expected)
    monkeypatch.delattr(module, "statistics")  # a second computation would fail
    assert same(kept_statistics(rows), expected)
    assert len(files(rows)) == 1


def test_other_clips_have_other_statistics(rows):
    first, other = kept_statistics(rows), rows.select(rows.clip_ids[:1])
    assert same(kept_statistics(other), computed(other))
    assert not same(kept_statistics(other), first)
    assert len(files(rows)) == 2


@pytest.mark.parametrize("damage", ["digest", "text"])
def test_a_file_that_was_changed_is_written_again(rows, damage):
    expected = kept_statistics(rows)
    (path,) = files(rows)
    whole = path.read_bytes()
    fields = json.loads(whole)
    fields["streams"]["visual"]["mean"][0] += 1
    path.write_bytes(json.dumps(fields).encode() if damage == "digest" else whole[:50])
    assert same(kept_statistics(rows), expected)
    assert path.read_bytes() == whole


def test_where_nothing_can_be_written_they_are_computed(rows, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(module, "write_atomic", refuse)
    assert same(kept_statistics(rows), computed(rows))
    assert not files(rows)
