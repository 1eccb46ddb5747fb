import json
from pathlib import Path

import pytest

from features.canonical_json import ABSENT, differences
from features.errors import InputError
from features.maintenance.why import Why, as_json, render_why, why
from features.store.feature_store import FeatureStore
from features.system.files import sha256_of
from tests.helpers.small_stores import SOURCE, SPEC, make_track, send_away, write_clips


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_clips(tmp_path)


def why_in(folder: Path, clip: str = "a", *, with_manifest: bool = True) -> tuple[Why, ...]:
    return why(str(folder / "s.zarr"), clip, folder / "m.jsonl" if with_manifest else None)


def test_of_a_complete_clip_nothing_differs(folder):
    assert list(render_why(why_in(folder))) == [f"{SPEC.name}: complete: nothing differs"]
    (line,) = render_why(why_in(folder, with_manifest=False))
    assert line == f"{SPEC.name}: complete: nothing differs"


def test_a_changed_source_is_shown_with_both_digests(folder):
    old = FeatureStore.open(folder / "s.zarr").commit(SPEC.name, "a").source["video"]
    (folder / "a.mp4").write_text("others")
    new = sha256_of(folder / "a.mp4")
    (found,) = why_in(folder)
    assert (found.state, found.reason) == ("stale", "source changed: video")
    assert [(d.field, d.old, d.new) for d in found.differences] == [
        ("source.video", f'"{old}"', f'"{new}"')
    ]
    assert f'  source.video: "{old}" -> "{new}"' in render_why((found,))


def test_without_a_manifest_the_media_is_not_compared(folder):
    (folder / "a.mp4").write_text("others")
    (found,) = why_in(folder, with_manifest=False)
    assert (found.state, found.differences) == ("complete", ())


def test_another_feature_set_of_the_same_kind_is_compared_field_by_field(folder):
    newer = SPEC.model_copy(update={"preprocessing": {"size": 64, "mean": [0.5]}, "epoch": 2})
    other = SPEC.model_copy(update={"kind": "ast"})
    store = FeatureStore.open(folder / "s.zarr")
    for spec in (newer, other):
        store.write(spec, "b", make_track(), source=SOURCE, provenance={"reason": "new"})
    by_name = {each.spec: each for each in why_in(folder, "b", with_manifest=False)}
    assert {
        name: [(d.field, d.old, d.new) for d in changes]
        for name, changes in by_name[newer.name].others.items()
    } == {
        SPEC.name: [
            ("spec.epoch", "1", "2"),
            ("spec.preprocessing.mean", ABSENT, "[0.5]"),
            ("spec.preprocessing.size", "32", "64"),
        ]
    }
    assert by_name[other.name].others == {}
    lines = list(render_why(tuple(by_name.values())))
    assert f"  from {SPEC.name} to {newer.name}:" in lines
    assert any("it was extracted because: new" in line for line in lines)
    json.dumps(as_json(tuple(by_name.values())))


def test_a_missing_clip_and_a_quarantined_one_have_their_reason(folder):
    (found,) = why_in(folder, "c")
    assert (found.state, found.reason) == ("missing", "no record")
    send_away(folder, "c")
    (found,) = why_in(folder, "c")
    assert (found.state, found.reason) == ("quarantined", "damaged: moov atom not found")
    (folder / "c.mp4").write_text("another file")
    assert why_in(folder, "c")[0].state == "missing"  # extract-features would try it


def test_a_damaged_record_and_missing_media_have_their_reason(folder):
    (folder / f"s.zarr/{SPEC.name}/a/zarr.json").write_text("{")
    assert why_in(folder)[0].state == "corrupt"
    (folder / "b.mp4").unlink()
    (found,) = why_in(folder, "b")
    assert (found.state, found.differences) == ("stale", ())
    assert "media that it was extracted from is no longer available" in found.reason


def test_the_media_is_not_compared_with_a_feature_set_of_an_unknown_kind(folder):
    unknown = SPEC.model_copy(update={"kind": "wav"})
    store = FeatureStore.open(folder / "s.zarr")
    store.write(unknown, "a", make_track(), source=SOURCE, provenance={})
    by_name = {each.spec: each for each in why_in(folder)}
    assert by_name[SPEC.name].reason == ""
    assert by_name[unknown.name].state == "complete"
    assert "does not know the kind 'wav'" in by_name[unknown.name].reason


def test_an_unknown_clip_is_an_input_error(folder):
    with pytest.raises(InputError, match="has no clip 'z'"):
        why_in(folder, "z")
    with pytest.raises(InputError, match="has no record of clip 'z'; `vaflow ls"):
        why_in(folder, "z", with_manifest=False)
    with pytest.raises(InputError, match="is no name of a clip"):
        why_in(folder, "../z", with_manifest=False)


def test_equal_values_do_not_differ_and_a_null_differs_from_a_value():
    assert list(differences("x", {"a": [1, {"b": 2}]}, {"a": [1, {"b": 2}]})) == []
    assert [d.field for d in differences("x", {"a": {"b": 1}}, {"a": {"b": None}})] == ["x.a.b"]
