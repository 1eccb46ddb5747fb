"""Extraction of a clip whose crops all lie between the sampled frames."""

import numpy as np
import pytest

from features.clip import Clip
from features.encoders.clip import ClipConfig
from features.extraction.extract import extract_features
from features.extraction.options import ExtractionOptions
from features.manifest.manifest import write_manifest
from features.media.sampling import Sampling
from features.store.feature_store import FeatureStore

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("sampling", [Sampling(every=4), Sampling(fps=6.25)])
def test_a_clip_without_a_crop_on_a_sampled_frame_has_no_valid_row(
    tiny_clip, make_video, make_crops, tmp_path, sampling
):
    make_video(time_s=np.arange(12) / 25)
    make_crops([2, 3, 7])  # frames 1, 2 and 6 counted from 0; 0, 4 and 8 are sampled
    make_crops([1, 2], "seen")
    clips = [
        Clip(id=name, subject=name, split="train", video="clip.mp4", frames=folder)
        for name, folder in (("between", "crops"), ("on", "seen"))
    ]
    write_manifest(tmp_path / "m.jsonl", clips)
    config = ClipConfig(**tiny_clip, sampling=sampling)

    result = extract_features(
        tmp_path / "m.jsonl",
        ExtractionOptions(str(tmp_path / "s.zarr"), (config,), device="cpu"),
    )

    assert {o.clip: o.state for o in result.outcomes} == {"between": "extracted", "on": "extracted"}
    store = FeatureStore.open(tmp_path / "s.zarr")
    track = store.read(config.spec().name, "between")
    assert not track.valid.any()
    assert not track.values.any()
    np.testing.assert_allclose(track.time_s, np.arange(12) / 25)
    on_first = store.read(config.spec().name, "on")
    np.testing.assert_array_equal(on_first.valid, np.arange(12) == 0)
