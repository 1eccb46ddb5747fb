"""Predicting a stream: it equals the offline prediction, and goes on where something is missing."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from features.encoders.ast import AstConfig
from features.encoders.clip import ClipConfig
from features.encoders.faces import FacesConfig
from features.errors import InputError, MediaError
from features.media.live.source import find_source
from features.media.sampling import Sampling
from features.synthetic.drawing import Pose
from features.synthetic.people import draw_people
from flows.command.main import main
from models.data.windows import SPAN_S
from models.metrics.smoothing import SmoothingWindows
from models.prediction.live import LiveRow
from models.prediction.live_estimate import check_causal
from models.prediction.live_people import LiveFaces
from models.runs.ensemble_record import EnsembleRecord
from models.runs.predictor import TrainedEnsemble, TrainedHead, open_model
from models.stages.predict import predict
from models.stages.predict_live import LiveSummary, predict_live
from tests.helpers.small_media import tone, write_video

pytestmark = pytest.mark.slow

N_FRAMES = 64  # about 13 s: longer than the span of a causal window
AWAY = range(30, 34)  # frames without the person
SIZE_PX = (224, 160)


@pytest.fixture(scope="module")
def causal(tmp_path_factory, good_set) -> Path:
    """The good set of test_bad_input.py with a causal head, and a video of one person."""
    folder = shutil.copytree(good_set, tmp_path_factory.mktemp("live") / "good")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        words = ["run", "train-head", "-c", "e.yaml", "run=causal", "head.windows=causal"]
        assert main(words) == 0
    rng = np.random.default_rng(0)
    time_s = np.cumsum(rng.uniform(0.15, 0.25, N_FRAMES))
    poses = [Pose(80 + 0.6 * k, 82.0 + 4 * np.sin(k), 30.0, yaw=0.01 * k) for k in range(N_FRAMES)]
    frames = [
        draw_people(() if k in AWAY else [pose], SIZE_PX, [5]) for k, pose in enumerate(poses)
    ]
    sound = tone(time_s[-1] - 2)  # which begins late and ends early
    write_video(
        folder / "one.mkv", time_s=time_s, frames=np.stack(frames), sound=sound, sound_starts_s=0.7
    )
    return folder


def live(folder: Path, source: str, **keys) -> tuple[list[LiveRow], LiveSummary, list[str]]:
    rows: list[LiveRow] = []
    notes: list[str] = []
    summary = predict_live(
        folder / "causal",
        find_source(source, None),
        on_rows=lambda some, _: rows.extend(some),
        on_note=notes.append,
        on_summary=lambda _: None,
        **{"device": "cpu"} | keys,
    )
    return rows, summary, notes


@pytest.mark.parametrize("frames", ["faces", "whole"])
def test_a_stream_gives_the_values_of_the_offline_prediction(causal, frames):
    offline = predict(
        run=causal / "causal",
        videos=(str(causal / "one.mkv"),),
        output=causal / f"out-{frames}",
        store=str(causal / "live.zarr"),
        frames=frames,
        format="json",
        device="cpu",
    )
    [person] = read_people(offline.output / "one.json")
    rows, summary, _ = live(causal, str(causal / "one.mkv"), frames=frames)
    assert person["time_s"][-1] > SPAN_S  # earlier rows have left the window, and the memory
    assert [row.frame for row in rows] == person["frame"]
    np.testing.assert_allclose([row.time_s for row in rows], person["time_s"], atol=1e-6)
    assert {row.person for row in rows} == {1}
    seen = np.array(person["valid"], bool)
    assert [row.valid for row in rows] == seen.tolist()
    assert np.flatnonzero(~seen).tolist() == (list(AWAY) if frames == "faces" else [])
    found = np.array([row.va for row in rows])
    wanted = np.stack([person["valence"], person["arousal"]], axis=1)
    np.testing.assert_allclose(found[seen], wanted[seen], atol=1e-5)
    assert np.ptp(wanted[seen], axis=0).min() > 1e-3  # it is no constant that is compared
    np.testing.assert_array_equal(found[~seen], np.tile(found[AWAY[0] - 1], (sum(~seen), 1)))
    regions = [
        name if is_seen else None for name, is_seen in zip(person["region"], seen, strict=True)
    ]
    assert [row.region for row in rows] == regions
    if frames == "faces":
        boxes = [row.box for row in rows if row.box]
        sides = [[person[f"face_{side}"][k] for side in "xywh"] for k in np.flatnonzero(seen)]
        np.testing.assert_allclose(boxes, sides, atol=0.051)  # which is rounded to 0.1
    assert (summary.frames_in, summary.frames_predicted, summary.frames_dropped) == (
        (N_FRAMES, N_FRAMES, 0)
    )
    assert summary.frames_valid == sum(seen)


def read_people(path: Path) -> list[dict]:
    return json.loads(path.read_text())["people"]


def test_without_sound_and_without_anybody_rows_are_not_valid(causal):
    nobody = np.stack([draw_people((), SIZE_PX)] * 4)
    write_video(causal / "nobody.mkv", time_s=np.arange(4) / 25, frames=nobody)
    rows, summary, notes = live(causal, str(causal / "nobody.mkv"))
    assert [(row.frame, row.person, row.valid, row.va) for row in rows] == [
        (k, None, False, None) for k in range(1, 5)
    ]
    assert rows[0].as_json(0.25) == {
        "frame": 1, "time_s": 0.0, "person": None, "box": None, "valid": False, "valence": None,
        "arousal": None, "region": None, "region_probability": None, "delay_s": 0.25,
    }  # fmt: skip
    assert summary.frames_valid == 0
    assert notes == ["the stream has no sound: its rows are predicted from the pictures alone"]


def test_a_stream_that_is_no_media_is_an_error_after_its_rows(causal, tmp_path):
    (tmp_path / "text.mkv").write_text("no media")
    with pytest.raises(MediaError, match="text.mkv cannot be decoded"):
        live(causal, str(tmp_path / "text.mkv"))


def test_people_are_numbered_as_they_appear_and_the_largest_are_kept():
    small, large = Pose(205.0, 80.0, 38.0), Pose(70.0, 95.0, 50.0)
    pictures = [draw_people([small], (256, 192)), draw_people([small, large], (256, 192))]
    both, one = LiveFaces(FacesConfig(), "all"), LiveFaces(FacesConfig(), "largest")
    looks = [[faces.look(picture) for picture in pictures] for faces in (both, one)]
    assert [list(look) for look in looks[0]] == [[1], [1, 2]]
    assert looks[0][1][1].box[0] > 128 > looks[0][1][2].box[0]
    assert [list(look) for look in looks[1]] == [[1], [1]]  # so far it covers more
    assert list(one.look(pictures[1])) == [2]
    gone = [both.look(draw_people([large], (256, 192), [6])) for _ in range(16)]
    assert [list(look) for look in gone] == [[1, 2]] * 15 + [[2]]  # the first track has ended
    assert gone[0][1].picture is gone[0][1].box is None
    assert gone[0][2].picture.shape == (112, 112, 3)


def test_what_cannot_be_streamed_is_refused_with_the_remedy(causal, tiny_clip, tiny_ast):
    source = find_source(str(causal / "one.mkv"), None)
    hooks = {"on_rows": print, "on_note": print, "on_summary": print}
    with pytest.raises(InputError, match="head.windows = dense.*with head.windows=causal"):
        predict_live(causal / "r", source, **hooks)
    sampled = ClipConfig(**tiny_clip, sampling=Sampling(every=2))
    model = open_model(causal / "causal")
    stream = model.meta.streams["visual"].model_copy(update={"feature_set": sampled.spec().name})
    meta = model.meta.model_copy(update={"streams": {**model.meta.streams, "visual": stream}})
    encoders = (sampled, AstConfig(model=tiny_ast, hop_s=0.64))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("models.stages.predict_live.open_model", lambda _: replace(model, meta=meta))
        with pytest.raises(InputError, match="trained on sampled frames .*features of every frame"):
            predict_live(causal / "causal", source, encoders=encoders, **hooks)
    head = TrainedHead(model.run, model.meta, model.config)
    record = EnsembleRecord.model_construct(widths_s=SmoothingWindows(0.0, 0.4))
    ensemble = TrainedEnsemble(model.run, record, model.config, (head, head))
    with pytest.raises(InputError, match="smooths over 0 s of valence and 0.4 s .*of a member"):
        check_causal(ensemble)
    still = EnsembleRecord.model_construct(widths_s=SmoothingWindows())
    check_causal(replace(ensemble, record=still))
