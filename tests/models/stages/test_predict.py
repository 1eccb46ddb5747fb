"""The stage `predict` on a small set: its numbers, what it keeps, and what it refuses."""

import csv
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

import vaflow
from features.encoders.ast import AstConfig
from features.encoders.clip import ClipConfig
from features.encoders.faces import FacesConfig
from features.errors import Incomplete, InputError, SpecMismatch
from features.media.alignment import AlignmentConfig
from features.media.crops import crop_files
from features.synthetic.drawing import Pose
from features.synthetic.people import draw_people
from features.system.files import sha256_of
from flows.messages import describe
from models.metrics.smoothing import SmoothingWindows
from models.plots.svg import AROUSAL, VALENCE
from models.prediction.encoders import encoders_of
from models.prediction.estimate import ModelEstimator
from models.prediction.figure import FOOT_PX, PERSON_PX, WIDTH_PX
from models.prediction.predict_video import VideoPredictor
from models.prediction.progress import VideoProgress
from models.prediction.record import LOCK, PAGE, RECORD
from models.prediction.rows import person_rows
from models.prediction.tables import COLUMNS, check_table_format, columns_of, write_table
from models.regions.prompts import FixedPrompts
from models.runs.checkpoint import read_meta, save_head
from models.runs.ensemble_record import EnsembleRecord
from models.runs.folder import CONFIG, HEAD_FILE, PREDICTIONS, PROVENANCE
from models.runs.predictor import TrainedEnsemble, TrainedHead, open_model
from models.stages.export_head import export_head
from models.stages.predict import PredictResult, predict
from models.stages.score_head import score_head
from models.stages.zero_shot import ZERO_SHOT, zero_shot
from tests.helpers.small_media import write_video

pytestmark = pytest.mark.slow

UNEVEN_S = np.array([0.0, 0.04, 0.1, 0.11, 0.3, 0.34, 0.5, 0.9])


@pytest.fixture(scope="module")
def good(tmp_path_factory, good_set) -> Path:
    """The good set of test_bad_input.py, and a video of uneven rate without sound."""
    folder = shutil.copytree(good_set, tmp_path_factory.mktemp("predict") / "good")
    (folder / "videos").mkdir()
    shutil.copy(folder / "c0.mp4", folder / "videos" / "first.mp4")
    write_video(folder / "videos" / "uneven.mp4", time_s=UNEVEN_S)
    (folder / "videos" / "notes.txt").write_text("")
    return folder


@pytest.fixture(scope="module")
def predicted(good) -> PredictResult:
    return predict_in(good, "out")


def predict_in(folder: Path, output: str, **keys) -> PredictResult:
    given = {
        "run": folder / "r",
        "videos": (str(folder / "videos"),),
        "output": folder / output,
        "store": str(folder / "features.zarr"),
        "device": "cpu",
        "frames": "whole",
    }
    return predict(**(given | keys))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def test_every_frame_has_a_row_with_its_own_time(predicted):
    rows = rows_of(predicted.output / "uneven.csv")
    assert tuple(rows[0]) == COLUMNS
    assert [int(row["frame"]) for row in rows] == list(range(1, len(UNEVEN_S) + 1))
    np.testing.assert_allclose([float(row["time_s"]) for row in rows], UNEVEN_S, atol=1e-4)
    assert {(row["person"], row["valid"], row["face_x"]) for row in rows} == {("1", "1", "")}
    assert all(" valence " in row["region"] for row in rows)
    assert all(1 / 9 <= float(row["region_probability"]) <= 1 for row in rows)
    assert {row["valence_spread"] for row in rows} == {""}


def test_values_are_those_of_score_head(predicted, good):
    score_head(run=good / "r", split="train")
    scored = [row for row in rows_of(good / "r" / "predictions.csv") if row["clip"] == "c0"]
    rows = rows_of(predicted.output / "first.csv")  # a copy of the video of c0
    for name in ("frame", "time_s"):
        assert [row[name] for row in rows] == [row[name] for row in scored], name
    for name in ("valence", "arousal"):  # frames may be encoded in other batches
        found, wanted = ([float(row[name]) for row in each] for each in (rows, scored))
        np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_an_exported_head_and_the_python_api_predict_the_same(predicted, good):
    export_head(good / "r", good / "exported")
    predict_in(good, "by-exported", run=good / "exported")
    keys = {"frames": "whole", "device": "cpu", "store": good / "features.zarr"}
    table = vaflow.predict(good / "exported", good / "videos", output=good / "by-python", **keys)
    assert tuple(table.columns) == vaflow.COLUMNS
    for name in ("first", "uneven"):
        wanted = rows_of(predicted.output / f"{name}.csv")
        rows, frames = rows_of(good / "by-exported" / f"{name}.csv"), table[table["clip"] == name]
        assert [row["region"] for row in rows] == [row["region"] for row in wanted]
        assert frames["frame"].tolist() == [int(row["frame"]) for row in wanted]
        for column in ("time_s", "valence", "arousal"):
            numbers = [float(row[column]) for row in wanted]
            np.testing.assert_allclose([float(row[column]) for row in rows], numbers, atol=2e-5)
            np.testing.assert_allclose(frames[column], numbers, atol=2e-5)


def test_the_result_tells_what_was_done_and_left_out(predicted):
    first, *others = describe(predicted)
    assert first.startswith("predict: 2 videos predicted (38 frames), 0 up to date; ")
    assert others == [
        "  left out, as their suffixes are not those of videos: notes.txt",
        "  note: uneven: the clip has no sound",
    ]
    assert predicted.page.name == PAGE
    page = predicted.page.read_text()
    assert 'href="first.csv"' in page
    assert 'src="uneven.svg"' in page
    assert 'href="uneven.png"' in page
    assert "Note: the clip has no sound" in page
    assert "not what the person feels" in page
    assert "drawn faces" not in page  # these encoders are not those of the demo


def test_the_timeline_is_also_a_png_of_twice_the_size(predicted):
    with Image.open(predicted.output / "uneven.png") as picture:
        assert picture.format == "PNG"
        assert picture.size == (2 * WIDTH_PX, 2 * (PERSON_PX + FOOT_PX))
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20)}
    assert {rgb_of(VALENCE), rgb_of(AROUSAL)} <= colours


def rgb_of(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour.removeprefix("#")))


AWAY = range(8, 12)  # frames without the second person


@pytest.fixture(scope="module")
def faces(good) -> PredictResult:
    """Of a video of two people, and of one without a face."""
    large, small = Pose(70.0, 95.0, 50.0), Pose(205.0, 80.0, 35.0)
    shown = [draw_people([large] if k in AWAY else [large, small], (256, 192)) for k in range(20)]
    write_video(good / "two.mp4", time_s=np.arange(20) / 25, frames=np.stack(shown))
    nobody = np.stack([draw_people((), (256, 192))] * 4)
    write_video(good / "nobody.mp4", time_s=np.arange(4) / 25, frames=nobody)
    return predict_faces(good)


def predict_faces(folder: Path, **keys) -> PredictResult:
    videos = tuple(str(folder / name) for name in ("two.mp4", "nobody.mp4"))
    return predict_in(folder, "faces", videos=videos, frames="faces", **keys)


def test_each_person_has_rows_and_frames_without_the_face_are_not_valid(faces):
    two, nobody = faces.videos
    assert (two.state, two.n_people, two.n_frames) == ("predicted", 2, 20)
    assert nobody.state == "failed"
    assert "no face was found in its 4 frames; frames=whole" in nobody.problem
    rows = rows_of(faces.output / "two.csv")
    assert [row["person"] for row in rows] == ["1"] * 20 + ["2"] * 20
    assert [row["valid"] for row in rows[:20]] == ["1"] * 20
    for frame, row in enumerate(rows[20:]):
        assert (row["valid"], row["face_x"] == "") == (
            ("0", True) if frame in AWAY else ("1", False)
        )
    assert 20 < float(rows[0]["face_x"]) < 70 < 150 < float(rows[20]["face_x"])


def test_in_python_each_person_is_a_clip_and_a_failure_is_raised(faces, good):
    keys = {"output": faces.output, "store": good / "features.zarr", "device": "cpu"}
    table = vaflow.predict(good / "r", good / "two.mp4", **keys)
    assert table["clip"].tolist() == ["two"] * 20 + ["two.p2"] * 20
    with pytest.raises(Incomplete, match="nobody: no face was found in its 4 frames"):
        vaflow.predict(good / "r", good / "two.mp4", good / "nobody.mp4", **keys)


def test_the_sound_of_a_video_is_encoded_once_for_all_people(faces):
    second = [each for each in faces.extraction.outcomes if each.clip.endswith(".p2")]
    states = {each.feature_set.partition("-")[0]: each.state for each in second}
    assert states == {"faces": "present", "clip": "extracted", "ast": "present"}


def test_fewer_people_are_predicted_without_encoding_or_searching_again(faces, good):
    again = predict_faces(good, people="largest")
    assert {outcome.state for outcome in again.extraction.outcomes} == {"present"}
    assert {row["person"] for row in rows_of(again.output / "two.csv")} == {"1"}


def test_the_faces_of_each_person_are_written_on_request(faces, good):
    again = predict_faces(good, crops=good / "found")

    assert [each.name for each in again.failed] == ["nobody"]
    assert {outcome.state for outcome in again.extraction.outcomes} == {"present"}
    rows = rows_of(faces.output / "two.csv")
    seen = [sum(row["person"] == who and row["valid"] == "1" for row in rows) for who in "12"]
    folders = sorted((good / "found").iterdir())  # the second person's name is the first's with .p2
    assert [len(crop_files(folder)) for folder in folders] == seen
    with pytest.raises(InputError, match="no faces are cut out"):
        predict_in(good, "whole", crops=good / "none", frames="whole")
    assert not (good / "whole").exists()


def test_given_encoders_say_how_faces_are_framed(faces, good, tiny_clip, tiny_ast):
    framed = FacesConfig(alignment=AlignmentConfig(margin=0.2))
    encoders = (ClipConfig(**tiny_clip, faces=framed), AstConfig(model=tiny_ast, hop_s=0.64))
    result = predict_faces(good, people="largest", encoders=encoders)
    made = [each for each in result.extraction.outcomes if each.state == "extracted"]
    assert [each.feature_set.partition("-")[0] for each in made] == ["clip"]  # no face is searched


def test_a_head_that_was_trained_on_found_faces_needs_the_same_search(good, tiny_clip, tiny_ast):
    of_whole, model = ClipConfig(**tiny_clip), open_model(good / "r")
    of_faces = of_whole.model_copy(update={"faces": FacesConfig()})
    sound = AstConfig(model=tiny_ast, hop_s=0.64)
    faces = model.meta.streams["visual"].model_copy(update={"feature_set": of_faces.spec().name})
    meta = model.meta.model_copy(update={"streams": {**model.meta.streams, "visual": faces}})
    model = replace(model, meta=meta)

    assert encoders_of(model, (of_faces, sound)) == (of_faces, sound)
    with pytest.raises(SpecMismatch, match="encoders that make them are not at hand"):
        encoders_of(model, (of_whole, sound))


def content(output: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in output.iterdir() if path.is_file()}


def test_what_is_up_to_date_is_kept_and_what_is_damaged_is_written_again(predicted, good):
    before = content(predicted.output)
    seen: list[tuple[str, str, int]] = []
    again = predict_in(good, "out", on_video=lambda r, n: seen.append((r.name, r.state, n)))
    assert seen == [("first", "present", 2), ("uneven", "present", 2)]
    assert again.extraction.counts == {"present": 4}
    assert content(predicted.output) == before
    (predicted.output / "uneven.csv").write_text("frame\n")  # as a full disk or an editor leaves it
    (predicted.output / "first.svg").unlink()
    assert predict_in(good, "out").counts == {"predicted": 2}
    assert content(predicted.output) == before


def test_progress_within_a_video_is_told(good, monkeypatch):
    monkeypatch.setattr("models.prediction.progress.TELL_EVERY_S", 0.0)
    told: list[VideoProgress] = []
    videos = (str(good / "videos" / "uneven.mp4"),)
    predict_in(good, "progress", videos=videos, force=True, on_progress=told.append)
    n_frames = len(UNEVEN_S)
    assert [(t.name, t.what, t.n_frames, t.total) for t in told] == [
        ("uneven", "clip", n_frames, n_frames)
    ]


def test_a_killed_prediction_does_the_rest(predicted, good, monkeypatch):
    whole = VideoPredictor.predict

    def killed(self, video, *others):
        if video.name == "uneven":
            raise KeyboardInterrupt
        return whole(self, video, *others)

    monkeypatch.setattr(VideoPredictor, "predict", killed)
    with pytest.raises(KeyboardInterrupt):
        predict_in(good, "killed")
    monkeypatch.undo()
    (good / "killed" / ".uneven.overlay.mp4.0a1b.part").write_bytes(b"begun")
    states = [video.state for video in predict_in(good, "killed").videos]
    assert states == ["present", "predicted"]
    made, whole_made = content(good / "killed"), content(predicted.output)
    del made[PAGE], whole_made[PAGE]  # which is called like its folder
    assert made == whole_made


def test_two_predictions_do_not_write_to_one_folder_at_once(good):
    refused: list[str] = []

    def start_another(*ignored) -> None:
        with pytest.raises(InputError, match="another prediction is writing") as raised:
            predict_in(good, "shared", format="json")
        refused.append(str(raised.value))

    (good / "shared").mkdir()
    (good / "shared" / LOCK).touch()  # of a killed prediction, whose lock the kernel has freed
    predict_in(good, "shared", on_video=start_another)
    remedy = "run the same again when it has ended, or give another folder"
    assert len(refused) == 2
    assert refused[0].startswith(f"output = {good / 'shared'}: ")
    assert refused[0].endswith(remedy)
    left = {path.name for path in (good / "shared").iterdir()}
    assert LOCK not in left
    assert not any(name.endswith(".json") for name in left - {RECORD})


def test_another_head_or_format_is_predicted_again_and_replaces_the_files(predicted, good):
    keys = {"videos": (str(good / "videos" / "uneven.mp4"),)}
    predict_in(good, "other", **keys)
    assert predict_in(good, "other", format="json", **keys).counts == {"predicted": 1}
    assert set(content(good / "other")) == {
        *(RECORD, PAGE),
        *("uneven.json", "uneven.svg", "uneven.png"),
    }
    (person,) = json.loads((good / "other" / "uneven.json").read_text())["people"]
    rows = rows_of(predicted.output / "uneven.csv")
    assert person["valence"] == [float(row["valence"]) for row in rows]
    assert person["region"] == [row["region"] for row in rows]
    assert person["face_w"] == [None] * len(rows)
    shifted = shutil.copytree(good / "r", good / "shifted")
    shift_head(shifted, 0.5)
    assert predict_in(good, "other", run=shifted, **keys).counts == {"predicted": 1}
    moved = rows_of(good / "other" / "uneven.csv")
    assert float(moved[0]["valence"]) != float(rows[0]["valence"])


def test_the_files_of_a_video_are_there_before_the_next_ones_are_read(good, monkeypatch):
    output, events, built = good / "groups", list[str](), list[str]()
    build = ClipConfig.build
    monkeypatch.setattr(ClipConfig, "build", lambda *args: built.append("clip") or build(*args))

    def on_video(result, n_videos) -> None:
        assert (output / f"{result.name}.csv").is_file()
        assert json.loads((output / RECORD).read_text())["videos"]
        events.append(result.name)

    def on_outcome(outcome, n_outcomes) -> None:
        events.append(outcome.clip.partition("-")[0])
        assert len(events) <= n_outcomes + 1  # the first video

    keys = {"readers": 1, "on_video": on_video, "on_outcome": on_outcome}
    result = predict_in(good, output.name, store=str(good / "groups.zarr"), **keys)
    assert events == ["first"] * 3 + ["uneven"] * 3
    assert built == ["clip"]  # once for all groups
    assert result.extraction.counts == {"extracted": 4}
    assert 'href="first.csv"' in result.page.read_text()


def test_an_overlay_is_kept_as_long_as_it_is_of_the_same_predictions(good):
    folder = good / "overlays"
    keys = {"videos": (str(good / "videos" / "uneven.mp4"),)}
    predict_in(good, folder.name, **keys)
    tables = content(folder)
    predict_in(good, folder.name, **keys, overlay=True)
    overlay = folder / "uneven.overlay.mp4"
    written, number = overlay.read_bytes(), overlay.stat().st_ino
    for name in ("uneven.csv", "uneven.svg", "uneven.png"):
        assert content(folder)[name] == tables[name]

    assert predict_in(good, folder.name, **keys).counts == {"present": 1}
    for changes in ({"format": "json"}, {"format": "json", "overlay": True}, {"force": True}):
        predict_in(good, folder.name, **keys, **changes)
        assert (overlay.read_bytes(), overlay.stat().st_ino) == (written, number), changes
    assert "uneven.json" not in content(folder)
    assert 'href="uneven.overlay.mp4"' in (folder / PAGE).read_text()
    predict_in(good, folder.name, **keys, overlay=True, force=True)
    assert overlay.stat().st_ino != number

    overlay.write_bytes(written[:100])  # as a full disk leaves it
    assert predict_in(good, folder.name, **keys).counts == {"predicted": 1}
    assert not overlay.exists()
    predict_in(good, folder.name, **keys, overlay=True)
    other = shutil.copytree(good / "r", good / "other-head")
    shift_head(other, 0.5)
    predict_in(good, folder.name, **keys, run=other)
    assert not overlay.exists()
    assert "<video" not in (folder / PAGE).read_text()


def shift_head(run: Path, by: float) -> None:
    """Add a number to every bias of a head."""
    path = run / HEAD_FILE
    meta, tensors = read_meta(path), load_file(path)
    moved = {name: t + by if name.endswith("bias") else t for name, t in tensors.items()}
    save_head(path, moved, None, meta)


def test_the_spread_is_over_the_members_of_an_ensemble(good, predicted):
    other = shutil.copytree(good / "r", good / "member")
    shift_head(other, 0.1)
    head = open_model(good / "r")
    members = [TrainedHead(run, head.meta, head.config) for run in (good / "r", other)]
    record = EnsembleRecord.model_construct(widths_s=SmoothingWindows(0.0, 0.2))
    ensemble = TrainedEnsemble(good / "r", record, head.config, tuple(members))
    packed = pack(good, head)
    found = ModelEstimator(ensemble).estimate(packed)
    np.testing.assert_array_equal(found.va, ensemble.predict(packed).va)
    each = [member.predict(packed, regions=True) for member in members]
    apart = np.abs(each[0].va[:, 0] - each[1].va[:, 0])  # valence is not smoothed
    np.testing.assert_allclose(found.spread[:, 0], apart / np.sqrt(2), atol=1e-12)
    assert found.spread[:, 1].max() > 0
    mean = (each[0].regions.posterior + each[1].regions.posterior) / 2
    np.testing.assert_allclose(found.regions.posterior, mean)


def pack(good: Path, head: TrainedHead):
    from models.data.alignment import align_clips
    from models.data.feature_sets import open_sets_of_head
    from models.data.packed_file import pack_in_memory

    sets = open_sets_of_head(str(good / "s.zarr"), head.meta.feature_sets)
    return pack_in_memory(align_clips(sets, {"c1": None}, 3), sets.modalities)


def test_boxes_and_gaps_are_in_the_columns(good):
    head = open_model(good / "r")
    packed = pack(good, head)  # frame 7 has no crop
    boxes = np.full((30, 4), np.nan)
    boxes[0] = 1.04, 2, 30, 40.26
    estimate = ModelEstimator(head).estimate(packed)
    columns = columns_of(person_rows(3, packed, estimate, boxes), head.meta.grid)
    assert [columns[f"face_{side}"][0] for side in "xywh"] == [1.0, 2.0, 30.0, 40.3]
    assert columns["face_x"][1:] == [None] * 29
    assert set(columns["person"]) == {3}
    assert [number for number, valid in enumerate(columns["valid"], 1) if not valid] == [7]
    assert columns["region"][6] is None
    assert columns["region_probability"][6] is None
    low, between, high = columns["valence"][5:8]
    assert between == pytest.approx((low + high) / 2, abs=1e-6)
    with pytest.raises(ValueError, match="4 boxes for 30 frames"):
        person_rows(1, packed, estimate, boxes[:4])


def test_parquet_needs_its_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(InputError, match="format = parquet needs pyarrow, which is not installed"):
        check_table_format("parquet")


def test_parquet_has_the_cells_of_the_other_formats(good, tmp_path):
    head = open_model(good / "r")
    packed = pack(good, head)
    estimate = ModelEstimator(head).estimate(packed)
    boxes = np.full((30, 4), np.nan)
    boxes[0] = 1.04, 2, 30, 40.26
    people = [person_rows(1, packed, estimate, boxes), person_rows(2, packed, estimate, None)]
    write_table(tmp_path / "t.parquet", "parquet", people, head.meta.grid)
    first, second = (columns_of(person, head.meta.grid) for person in people)
    assert parquet.read_table(tmp_path / "t.parquet").to_pydict() == {
        name: [*first[name], *second[name]] for name in COLUMNS
    }


def test_the_encoders_of_a_run_are_found_in_its_store_or_must_be_given(
    good, tiny_clip, tiny_ast, predicted
):
    old = shutil.copytree(good / "r", good / "old")  # of a version that did not name them
    provenance = json.loads((old / PROVENANCE).read_text())
    (old / PROVENANCE).write_text(json.dumps({k: provenance[k] for k in ("key", "inputs")}))
    assert predict_in(good, "old-out", run=old).counts == {"predicted": 2}
    config = yaml.safe_load((old / CONFIG).read_text())
    (old / CONFIG).write_text(yaml.safe_dump(config | {"store": str(good / "gone.zarr")}))
    with pytest.raises(InputError, match="reads the features clip-.* and ast-.*not at hand"):
        predict_in(good, "old-out", run=old)
    encoders = (AstConfig(model=tiny_ast, hop_s=0.64), ClipConfig(**tiny_clip))
    assert predict_in(good, "old-out", run=old, encoders=encoders).counts == {"present": 2}


def test_an_encoder_with_other_weights_is_refused(good, tiny_clip, tiny_ast, tmp_path):
    tensors = load_file(tiny_clip["pretrained"])
    tensors["logit_scale"] = torch.tensor(3.0)
    save_file(tensors, tmp_path / "other.safetensors")
    other = ClipConfig(**tiny_clip | {"pretrained": str(tmp_path / "other.safetensors")})
    encoders = (other, AstConfig(model=tiny_ast, hop_s=0.64))
    with pytest.raises(SpecMismatch) as raised:
        predict_in(good, "refused", encoders=encoders)
    first, problem = str(raised.value).splitlines()
    assert "reads the features clip-" in first
    assert "ast-" not in first
    wanted = json.loads((good / "r" / PROVENANCE).read_text())["specs"]["visual"]
    found = other.spec().weights_sha256
    assert f"weights_sha256 is {found}, not {wanted['weights_sha256']}" in problem
    assert not (good / "refused").exists()


def test_zero_shot_needs_encoders_and_no_run(good, tiny_clip, tiny_ast):
    encoders = (ClipConfig(**tiny_clip), AstConfig(model=tiny_ast, hop_s=0.64))
    keys = {"run": None, "zero_shot": True, "videos": (str(good / "c0.mp4"),)}
    result = predict_in(good, "zero", encoders=encoders, **keys)
    rows = rows_of(result.output / "c0.csv")
    assert len(rows) == 30
    assert max(abs(float(row["valence"])) for row in rows) <= 0.66  # within the centres
    assert {row["valence_spread"] for row in rows} == {""}
    assert "Nothing was trained" in result.page.read_text()
    with pytest.raises(InputError, match="needs the encoders in a config"):
        predict_in(good, "zero", **keys)
    with pytest.raises(InputError, match="run and zero_shot=true exclude each other"):
        predict_in(good, "zero", zero_shot=True)
    with pytest.raises(InputError, match="run is missing"):
        predict_in(good, "zero", run=None)


def test_zero_shot_values_are_matched_as_those_of_labelled_clips(good, tiny_clip, tiny_ast):
    matched = good / "matched" / ZERO_SHOT
    zero_shot(manifest=good / "m.jsonl", store=str(good / "s.zarr"), output=matched.parent)
    encoders = (ClipConfig(**tiny_clip), AstConfig(model=tiny_ast, hop_s=0.64))
    keys = {
        **{"run": None, "zero_shot": True, "affine": matched, "encoders": encoders},
        "videos": (str(good / "c0.mp4"),),
    }
    result = predict_in(good, "affine", **keys)
    labelled = [row for row in rows_of(matched.parent / PREDICTIONS) if row["clip"] == "c0"]
    for found, expected in zip(rows_of(result.output / "c0.csv"), labelled, strict=True):
        for name in ("valence", "arousal"):
            assert float(found[name]) == pytest.approx(float(expected[name]), abs=2e-6)
    page = result.page.read_text()
    assert "are matched to those of labels" in page
    assert str(matched.resolve()) in page
    other = ClipConfig(**tiny_clip, precision="bfloat16")
    with pytest.raises(SpecMismatch, match="affine is of the features clip-.* makes clip-"):
        predict_in(good, "affine", **keys | {"encoders": (other, encoders[1])})
    with pytest.raises(InputError, match="is of other prompts than those given"):
        predict_in(good, "affine", **keys, prompts=FixedPrompts(texts="four_quadrants"))
    with pytest.raises(InputError, match="m.jsonl is not JSON .*; give the zero_shot.json that"):
        predict_in(good, "affine", **keys | {"affine": good / "m.jsonl"})
    with pytest.raises(InputError, match="none.json holds no zero-shot settings; give the zero_"):
        predict_in(good, "affine", **keys | {"affine": good / "none.json"})
    with pytest.raises(InputError, match="affine is of a zero-shot prediction: give zero_shot="):
        predict_in(good, "affine", affine=matched)
