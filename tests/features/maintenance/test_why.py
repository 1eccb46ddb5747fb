import json

import pytest

from features.errors import InputError
from features.maintenance.why import ABSENT, as_json, differences, render_why, why
from features.store.feature_store import FeatureStore
from features.system.files import sha256_of
from tests.helpers.small_stores import SOURCE, SPEC, make_track, send_away, write_clips


@pytest.fixture
def place(tmp_path):
    return write_clips(tmp_path)


def asked(folder, clip="a", manifest=True):
    return why(str(folder / "s.zarr"), clip, folder / "m.jsonl" if manifest else None)


def test_nothing_differs(place):
    assert list(render_why(asked(place))) == [f"{SPEC.name}: complete: nothing differs"]
    assert next(render_why(asked(place, manifest=False))).endswith("nothing differs")


def test_a_changed_source_is_told_with_both_digests(place):
    old = FeatureStore.open(place / "s.zarr").commit(SPEC.name, "a").source["video"]
    (place / "a.mp4").write_text("others")
    (found,) = asked(place)
    new = sha256_of(place / "a.mp4")
    assert (found.state, found.reason) == ("stale", "source changed: video")
    assert [(d.field, d.old, d.new) for d in found.differences] == [
        ("source.video", f'"{old}"', f'"{new}"')
    ]
    assert f'  source.video: "{old}" -> "{new}"' in render_why((found,))
    assert not asked(place, manifest=False)[0].differences  # the media was not looked at


def test_another_set_of_the_same_kind_is_told_field_by_field(place):
    newer = SPEC.model_copy(update={"preprocessing": {"size": 64, "mean": [0.5]}, "epoch": 2})
    other = SPEC.model_copy(update={"kind": "ast"})
    store = FeatureStore.open(place / "s.zarr")
    for spec in (newer, other):
        store.write(spec, "b", make_track(), source=SOURCE, provenance={"reason": "new"})
    by_name = {each.spec: each for each in asked(place, "b", manifest=False)}
    assert {
        name: [(d.field, d.old, d.new) for d in differs]
        for name, differs in by_name[newer.name].others.items()
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


def test_missing_damaged_and_quarantined_are_told(place):
    (found,) = asked(place, "c")
    assert (found.state, found.reason) == ("missing", "no record")
    send_away(place, "c")
    (found,) = asked(place, "c")
    assert (found.state, found.reason) == ("quarantined", "damaged: moov atom not found")
    (place / "c.mp4").write_text("another file")
    assert asked(place, "c")[0].state == "missing"  # it would be tried again
    (place / f"s.zarr/{SPEC.name}/a/zarr.json").write_text("{")
    assert asked(place)[0].state == "corrupt"
    (place / "b.mp4").unlink()
    (found,) = asked(place, "b")
    assert found.state == "stale"
    assert "its media is not what they were made of" in found.reason


def test_a_clip_that_nobody_knows_is_wrong_input(place):
    with pytest.raises(InputError, match="has no clip 'z'"):
        asked(place, "z")
    with pytest.raises(InputError, match="knows nothing of a clip 'z'; `vaflow ls"):
        asked(place, "z", manifest=False)
    with pytest.raises(InputError, match="is no name of a clip"):
        asked(place, "../z")


def test_equal_values_do_not_differ():
    assert list(differences("x", {"a": [1, {"b": 2}]}, {"a": [1, {"b": 2}]})) == []
    assert [d.field for d in differences("x", {"a": {"b": 1}}, {"a": {"b": None}})] == ["x.a.b"]
