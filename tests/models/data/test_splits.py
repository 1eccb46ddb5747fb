import pytest

from features.clip import Clip
from features.errors import InputError
from features.manifest.manifest import Manifest
from models.data.splits import read_all_labels


@pytest.mark.parametrize(
    ("text", "lag_s"), [("time_s,valence,arousal\n0,0,0\n", 0.0), ("valence,arousal\n0,0\n", 2.0)]
)
def test_labels_that_heads_would_take_for_rows_per_frame_are_refused(tmp_path, text, lag_s):
    (tmp_path / "a.csv").write_text(text)
    clips = (Clip(id="a", labels="a.csv", label_lag_s=lag_s),)
    with pytest.raises(
        InputError, match="1 clips \\(a\\) have labels with times .* or a label_lag"
    ):
        read_all_labels(Manifest(tmp_path, clips), clips, required=True)
