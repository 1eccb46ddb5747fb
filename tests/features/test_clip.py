import numpy as np
import pytest

from features.clip import Track


def track(**changes) -> Track:
    parts = {
        "values": np.ones((3, 2), np.float16),
        "time_s": np.array([0.0, 0.1, 0.2]),
        "valid": np.ones(3, bool),
    }
    return Track(**{**parts, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"time_s": np.array([0.0, 0.1, 0.1])}, "increase strictly; it does not at row 2"),
        ({"values": np.full((3, 2), np.nan, np.float16)}, "must be finite"),
        ({"time_s": np.array([0.0, 0.1, np.inf])}, "must be finite"),
        ({"valid": np.array([True, False, True])}, "must be 0 where valid is false"),
    ],
)
def test_an_invalid_track_is_refused(changes, message):
    track()
    with pytest.raises(ValueError, match=message):
        track(**changes)


def test_a_track_has_one_row_per_step():
    with pytest.raises(Exception, match="T|one row per step"):
        track(valid=np.ones(2, bool))


def test_a_value_that_is_not_finite_is_found_in_any_block():
    values = np.zeros((3000, 2), np.float16)
    values[2999, 1] = np.nan
    with pytest.raises(ValueError, match="must be finite"):
        Track(values, np.arange(3000.0), np.ones(3000, bool))
