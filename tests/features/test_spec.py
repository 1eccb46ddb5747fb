import subprocess
import sys

import pytest
from hypothesis import given
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


@given(st.dictionaries(st.text(max_size=3), JSON, min_size=2))
def test_order_of_keys_does_not_count(value):
    assert canonical(dict(reversed(value.items()))) == canonical(value)


def test_a_whole_number_is_one_number_however_it_is_written():
    a = SPEC.model_copy(update={"sampling": {"hop_s": 1, "x": [2.0]}})
    b = SPEC.model_copy(update={"sampling": {"x": [2], "hop_s": 1.0}})
    assert a.name == b.name


def test_what_json_cannot_say_is_an_error():
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
