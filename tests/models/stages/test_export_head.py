"""Exported heads: their numbers are those of the run, in torch, in ONNX and in `predict`."""

import json
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import yaml
from onnx.reference import ReferenceEvaluator

from features.errors import InputError, LaterVersion
from flows.command.main import main
from models.data.packed import PackedFeatures
from models.heads.config import HeadConfig
from models.heads.dspl import DsplConfig, ReleasedConfig
from models.heads.windows import head_windows
from models.metrics.scores import split_score
from models.metrics.smoothing import SmoothingWindows
from models.prediction.card import APPARENT, LICENCE, facts_of
from models.prediction.model_card import CHOSEN_ON_VAL, NOT_FOR, model_card
from models.regions.prompts import FixedPrompts
from models.runs.checkpoint import CheckpointMeta, StreamMeta, load_head
from models.runs.exported import CARD, ONNX, PROGRAM, ExportedHead, read_exported
from models.runs.folder import CONFIG, EXPORTED, HEAD_FILE, PROVENANCE, SCORES, write_json
from models.runs.predictor import TrainedHead, open_model
from models.runs.program import (
    REGION_LOGITS,
    VA,
    arrays_of,
    drawn_windows,
    export_program,
    head_program,
)
from models.runs.run_split import open_split, read_split
from models.stages.export_head import TOLERANCE, export_head
from models.stages.train_head import train_head
from models.training.config import TrainConfig
from models.training.loss_config import LossConfig
from tests.helpers.doc_blocks import blocks
from tests.helpers.synthetic import AST_SPEC, WIDTH_AUDIO, WIDTH_VISUAL, Planted, plant

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[3] / "docs"
TRAIN = TrainConfig(epochs=1, window=12, stride=7, learning_rate=1e-2, threads=1, device="cpu")


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Planted:
    return plant(tmp_path_factory.mktemp("planted"), ("train", "train", "val", "val"))


@pytest.fixture(scope="module")
def run(planted) -> Path:
    folder = planted.manifest.parent / "run"
    given = {"manifest": planted.manifest, "store": planted.store, "run": folder}
    train_head(**given, head=DsplConfig(width=8), train=TRAIN)
    return folder


@pytest.fixture(scope="module")
def output(run, tmp_path_factory) -> Path:
    source = open_split(run, None, None, "val")
    predicted = read_split(source)
    score = split_score(predicted.prediction, predicted.packed, source.subject_by_clip)
    assert score is not None
    write_json(run / SCORES, {"val": asdict(score)})  # as score-head does, without its report
    folder = tmp_path_factory.mktemp("exports") / "exported"
    assert main(["export-head", str(run), str(folder), "--onnx"]) == 0
    return folder


@pytest.fixture
def spoilt(output, tmp_path) -> Path:
    """A copy that a test may spoil."""
    return shutil.copytree(output, tmp_path / "exported")


@pytest.fixture(scope="module")
def val(run) -> PackedFeatures:
    return open_split(run, None, None, "val").clips.load(3)


def test_an_exported_head_predicts_what_its_run_does(output, run, val):
    ours = read_exported(output).predict(val, regions=True)
    theirs = open_model(run).predict(val, regions=True)
    np.testing.assert_allclose(ours.va, theirs.va, atol=1e-5)
    assert ours.interpolated.tolist() == theirs.interpolated.tolist()
    assert ours.regions is not None
    assert theirs.regions is not None
    np.testing.assert_allclose(ours.regions.posterior, theirs.regions.posterior, atol=1e-5)
    assert read_exported(output).predict(val).regions is None


def test_smoothing_is_that_of_the_run(output, run, val):
    widths = SmoothingWindows(0.5, 1.0)
    exported, trained = read_exported(output), open_model(run)
    assert isinstance(trained, TrainedHead)
    exported = replace(
        exported, meta=exported.meta.model_copy(update={"smoothing_s": widths}), _loaded={}
    )
    trained = replace(trained, meta=trained.meta.model_copy(update={"widths_s": widths}))
    np.testing.assert_allclose(exported.predict(val).va, trained.predict(val).va, atol=1e-5)
    assert np.abs(exported.predict(val).va - read_exported(output).predict(val).va).max() > 1e-3


def test_the_program_in_onnx_gives_the_same(output, run, val):
    model = open_model(run)
    windows = head_windows(val, model.meta.head, size=12, stride=7)
    values, valid = arrays_of(val.gather(windows, np.arange(5))[0])
    inputs = values | {f"{name}_valid": each for name, each in valid.items()}
    found = onnx.load(output / ONNX)
    session = ReferenceEvaluator(found)
    assert {each.name for each in found.graph.input} == set(inputs)
    got = session.run(None, {name: each.numpy() for name, each in inputs.items()})
    named = dict(zip(session.output_names, got, strict=True))
    wanted = head_program(load_head(run / HEAD_FILE, torch.device("cpu")), model.meta)(
        values, valid
    )
    assert set(named) == set(wanted)
    np.testing.assert_allclose(named[VA], wanted[VA].numpy(), atol=1e-5)


@pytest.mark.parametrize(
    "config",
    [
        ReleasedConfig(width=8, n_heads=2),
        DsplConfig(
            width=8,
            n_heads=2,
            temporal="transformer",
            fusion="concatenation",
            prompts=FixedPrompts(),
            prior="zero_shot",
            skip_dropout=0.0,
            skip_spans=(4,),
        ),
    ],
    ids=["causal", "transformer with a prior"],
)
def test_heads_of_other_parts_are_exported_for_any_number_of_windows(inputs, config: HeadConfig):
    meta = CheckpointMeta(
        head=config.for_streams(("visual", "audio"), ("visual",)),
        loss=LossConfig(region_weight=0.0),
        streams={
            "visual": StreamMeta(feature_set="clip-0", modality="visual", width=WIDTH_VISUAL),
            "audio": StreamMeta(feature_set="ast-0", modality="audio", width=WIDTH_AUDIO),
        },
        window=10,
        stride=5,
        key="",
    )
    torch.manual_seed(0)
    network = head_program(config.build(inputs), meta)
    program = export_program(network, meta).module()
    for n in (1, 2, 9):
        arrays = drawn_windows(meta, n)
        assert set(program(*arrays)) == {VA}  # the region branch was not trained
        torch.testing.assert_close(program(*arrays)[VA], network(*arrays)[VA], atol=1e-5, rtol=0)


def test_the_description_has_what_is_needed_to_make_the_inputs(output, run, planted):
    about = json.loads((output / EXPORTED).read_text())
    provenance = json.loads((run / PROVENANCE).read_text())
    assert list(about["streams"]) == ["visual", "audio"]
    for name, stream in about["streams"].items():
        assert stream["spec"] == provenance["specs"][name]
        assert stream["encoder"] == provenance["encoders"][name]
        assert stream["n_rows"] == 12
    assert about["streams"]["audio"]["feature_set"] == AST_SPEC.name
    assert about["streams"]["visual"]["spec"]["weights_sha256"] == planted.visual.weights_sha256
    assert about["clock"] == planted.visual.name
    assert (about["windows"], about["stride"]) == ("dense", 7)
    assert about["outputs"] == [VA, REGION_LOGITS, "region_valid"]
    assert about["label_range"] == [-1.0, 1.0]
    assert about["checked"].keys() == {"random", "real"}
    assert max(about["checked"].values()) <= TOLERANCE
    assert about["trained_on"]["clips"] == {"train": 2, "val": 2}
    assert about["sha256"].keys() == {PROGRAM, ONNX, CARD}
    assert str(planted.manifest.parent) not in json.dumps(about["trained_on"])


def test_the_model_card_says_on_whom_how_well_and_what_not_for(output, run):
    card, score = (output / CARD).read_text(), json.loads((run / SCORES).read_text())["val"]
    assert "2 clips of 2 people, the split train of `manifest.jsonl`." in card
    interval = f"({score['ccc_mean_low']:.3f} to {score['ccc_mean_high']:.3f})"
    assert f"{score['ccc_mean']:.3f} {interval}" in card
    assert APPARENT in card
    assert LICENCE in card
    assert all(f"- {text}" in card for text in NOT_FOR)
    assert CHOSEN_ON_VAL not in card
    about = read_exported(output).meta
    chosen = about.model_copy(
        update={"trained_on": about.trained_on.model_copy(update={"select": "val"})}
    )
    assert CHOSEN_ON_VAL in model_card(chosen)
    assert "It was not scored." in model_card(about.model_copy(update={"scores": {}}))


@pytest.mark.parametrize("page", ["card", "docs"])
def test_its_examples_run(output, tmp_path, monkeypatch, page):
    if page == "card":
        monkeypatch.chdir(output)
        code = (output / CARD).read_text().split("```python\n")[1].split("```")[0]
    else:
        (tmp_path / "data" / "demo").mkdir(parents=True)
        (tmp_path / "data" / "demo" / "exported").symlink_to(output)
        monkeypatch.chdir(tmp_path)
        (block,) = blocks(DOCS / "predict.md")
        code = block.text
    found: dict[str, torch.Tensor] = {}
    exec(code, found)
    assert found["va"].shape == (4, 12, 2)


def test_a_prediction_names_the_exported_head(output, run):
    facts = facts_of(read_exported(output), ())
    assert facts["model"] == "exported head of kind dspl"
    assert facts["trained on"] == "2 clips of manifest.jsonl"
    assert (
        facts["scored by its training"] == facts_of(open_model(run), ())["scored by its training"]
    )


def test_other_stages_name_the_run_instead(output):
    with pytest.raises(InputError, match="holds an exported head, with which only files"):
        open_model(output)


def test_the_store_and_the_manifest_may_be_gone(run, spoilt, tmp_path):
    """The program is checked on random windows then; what the card lacks is said."""
    copy = shutil.copytree(run, tmp_path / "run")
    config = yaml.safe_load((copy / CONFIG).read_text())
    gone = {"store": "gone.zarr", "manifest": "gone.jsonl"}
    (copy / CONFIG).write_text(yaml.safe_dump(config | gone))
    for name in (SCORES, PROVENANCE):
        (copy / name).unlink(missing_ok=True)
    (spoilt / EXPORTED).unlink()  # an export that was killed
    (spoilt / f".{PROGRAM}.0.part").touch()
    result = export_head(copy, spoilt)
    assert {path.name for path in spoilt.iterdir()} == {EXPORTED, PROGRAM, CARD}
    assert result.description.checked.keys() == {"random"}
    assert result.description.trained_on.subjects is None
    assert [note.split(":")[0].split(",")[0] for note in result.notes] == [
        "the run has no scores",
        "which encoder made visual and audio is not known from the run",
        "the store of the training is not at hand",
    ]
    card = (spoilt / CARD).read_text()
    assert "An unknown number of clips of an unknown number of people" in card


def test_the_output_is_a_folder_of_its_own(run, tmp_path):
    with pytest.raises(InputError, match="holds files that do not belong .*config.yaml"):
        export_head(run, run)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is no folder; give another path"):
        export_head(run, tmp_path / "file")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda text: "{", InputError, "cannot be read .*; export the head again"),
        (lambda text: text.replace("head-1", "head-2"), LaterVersion, "of format .*head-2"),
        (lambda text: text.replace('"stride"', '"strides"'), InputError, "no description .*stride"),
        (lambda text: "[]", InputError, "no description .* it holds no keys"),
    ],
)
def test_a_wrong_description_is_refused(spoilt, change, error, message):
    path = spoilt / EXPORTED
    path.write_text(change(path.read_text()))
    with pytest.raises(error, match=message):
        read_exported(spoilt)


def test_another_program_is_refused(spoilt, val):
    (spoilt / PROGRAM).write_bytes(b"")
    exported: ExportedHead = read_exported(spoilt)
    with pytest.raises(InputError, match="is not the program that head.json beside it describes"):
        exported.predict(val)


def test_onnx_that_is_missing_is_named(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(InputError, match=r"needs onnxscript.*pip install -e '.\[onnx\]'"):
        export_head(run, tmp_path / "out", onnx=True)
    assert not (tmp_path / "out").exists()
