import pickle
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.canonical_json import canonical
from features.spec import FeatureSpec
from tests.helpers.small_stores import SPEC

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@pytest.mark.parametrize("field", FeatureSpec.model_fields)
def test_each_field_alone_changes_the_name(field):
    changed = {
        "kind": "ast",
        "model": {"name": "other"},
        "weights_sha256": "1" * 64,
        "preprocessing": {"size": 33},
        "sampling": {"rows": "every second"},
        "precision": "bfloat16",
        "stored": "float32",
        "epoch": 2,
    }[field]
    assert SPEC.model_copy(update={field: changed}).digest != SPEC.digest


def fresh() -> FeatureSpec:
    return FeatureSpec(**SPEC.model_dump())


def test_the_digest_is_computed_once(monkeypatch):
    spec = fresh()
    digest, name = spec.digest, spec.name
    monkeypatch.setattr("features.spec.canonical_sha256", lambda _: pytest.fail("computed again"))
    assert (spec.digest, spec.name) == (digest, name)


def test_a_cached_digest_changes_neither_equality_nor_dumps_nor_pickles():
    used, unused = fresh(), fresh()
    assert used.name.startswith("clip-")
    assert used == unused
    assert used.model_dump() == unused.model_dump()
    assert used.model_dump_json() == unused.model_dump_json()
    assert repr(used) == repr(unused)
    unpickled = pickle.loads(pickle.dumps(used))  # noqa: S301
    assert unpickled == unused
    assert unpickled.name == unused.name
    with pytest.raises(TypeError, match="unhashable"):
        hash(used)


def test_a_copy_with_another_field_has_a_digest_of_its_own():
    spec = fresh()
    assert spec.name  # cached from now on
    copy = spec.model_copy(update={"epoch": spec.epoch + 1})
    assert copy.digest == FeatureSpec(**{**spec.model_dump(), "epoch": spec.epoch + 1}).digest
    assert copy.name != spec.name


@settings(max_examples=30)
@given(st.dictionaries(st.text(max_size=3), JSON, min_size=2))
def test_the_order_of_keys_does_not_change_canonical_json(value):
    assert canonical(dict(reversed(value.items()))) == canonical(value)


def test_a_whole_float_and_an_integer_give_the_same_name():
    a = SPEC.model_copy(update={"sampling": {"hop_s": 1, "x": [2.0]}})
    b = SPEC.model_copy(update={"sampling": {"x": [2], "hop_s": 1.0}})
    assert a.name == b.name


def test_a_value_without_a_json_form_is_an_error():
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical({"x": float("nan")})
    with pytest.raises(TypeError, match="not JSON serializable"):
        canonical({"x": object()})


def test_the_name_is_the_same_in_another_process_with_another_hash_seed():
    code = f"from features.spec import FeatureSpec as F; print(F(**{SPEC.model_dump()!r}).name)"
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PATH": ""},
        )
        assert done.stdout.strip() == SPEC.name
