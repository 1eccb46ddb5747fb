"""A head learns from features that were made elsewhere, like from any other."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from features.errors import InputError
from features.imports.import_features import ImportResult, import_features
from features.imports.options import ImportOptions, ReadOptions
from features.store.feature_store import FeatureStore
from models.data.feature_sets import open_sets
from models.prediction.encoders import encoders_of
from models.runs.predictor import open_model
from models.stages.score_head import score_head
from models.stages.train_head import train_head
from tests.helpers.small_heads import FULL, HEAD
from tests.helpers.synthetic import AST_SPEC, FRAME_S, Planted, plant

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("without_figures")]


@dataclass(frozen=True)
class Imported:
    """A planted data set, with what it says in the voice brought in as `voice`."""

    planted: Planted
    voice: ImportResult

    def bring(self, path: Path, kind: str, **keys) -> ImportResult:
        options = ImportOptions((path,), kind, **keys)
        return import_features(options, self.planted.store, self.planted.manifest)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Imported:
    folder = tmp_path_factory.mktemp("imported")
    planted = plant(folder)
    store, arrays = FeatureStore.open(planted.store), {}
    for clip in store.clip_ids(AST_SPEC.name):
        track = store.read(AST_SPEC.name, clip)
        arrays |= {clip: track.values, f"{clip}.time_s": track.time_s}
    np.savez(folder / "voice.npz", **arrays)
    options = ImportOptions((folder / "voice.npz",), "voice", "audio")
    return Imported(planted, import_features(options, planted.store, planted.manifest))


def test_a_head_on_an_imported_stream_finds_what_is_in_it(data, tmp_path):
    streams = {"face": data.planted.visual.name, "voice": data.voice.feature_set}
    result = train_head(
        run=tmp_path / "run",
        manifest=data.planted.manifest,
        store=data.planted.store,
        head=HEAD,
        train=FULL,
        streams=streams,
    )
    assert result.kept.ccc_arousal > 0.9
    assert score_head(run=result.run).score.ccc_mean == pytest.approx(result.kept.ccc_mean)
    with pytest.raises(InputError, match=r"features voice-\w+, which were imported from files: no"):
        encoders_of(open_model(result.run), None)


def test_only_rows_that_are_frames_can_be_the_clock_of_labels(data, tmp_path):
    clips = FeatureStore.open(data.planted.store).clip_ids(data.planted.visual.name)
    np.savez(tmp_path / "f.npz", **{clip: np.ones((20, 2)) for clip in clips})
    reading = ReadOptions(fps=1 / FRAME_S)
    own, frames = (
        data.bring(
            tmp_path / "f.npz", "boxes", modality="visual", reading=reading, has_frame_rows=is_frame
        )
        for is_frame in (False, True)
    )
    assert own.feature_set != frames.feature_set
    sets = open_sets(data.planted.store, {"boxes": frames.feature_set})
    assert sets.clock == sets.specs["boxes"]
    sets = open_sets(data.planted.store, {"boxes": own.feature_set})
    assert sets.modalities == {"boxes": "visual"}
    assert sets.clock
    assert sets.clock.name != own.feature_set
