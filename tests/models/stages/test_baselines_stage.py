import json
from pathlib import Path

import pytest

from features.errors import InputError
from features.manifest.manifest import read_manifest, write_manifest
from flows.command.main import main
from flows.messages import baseline_name, baseline_table
from models.baselines.mean import MeanConfig
from models.baselines.predict import predict_baseline
from models.baselines.ridge import RidgeConfig
from models.baselines.text import TextConfig
from models.data.train_val import load_splits
from models.metrics.scores import split_score
from models.stages.baselines import every_baseline, score_baselines
from tests.helpers.synthetic import plant

pytestmark = pytest.mark.slow

FEW = (MeanConfig(), RidgeConfig(streams=("visual",)), RidgeConfig())


@pytest.fixture
def planted(tmp_path):
    return plant(tmp_path)


def rewrite(planted, **of_split) -> None:
    """Give every clip of the train or the val split the same fields."""
    clips = read_manifest(planted.manifest).clips
    changed = [clip.model_copy(update=of_split.get(clip.split, {})) for clip in clips]
    write_manifest(planted.manifest, changed)


def test_the_stage_scores_val_after_learning_from_train(planted, tmp_path):
    output = tmp_path / "deep" / "b.json"
    result = score_baselines(
        manifest=planted.manifest, store=planted.store, baselines=FEW, output=output
    )
    splits = load_splits(planted.manifest, planted.store)
    for (baseline, score), config in zip(result.scores, FEW, strict=True):
        found = predict_baseline(
            config, splits.train, splits.val, splits.subject_by_clip, splits.read_regions
        )
        assert baseline == config
        assert score == split_score(found, splits.val, splits.subject_by_clip)
    written = json.loads(output.read_text())
    assert written["streams"] == splits.sets.names
    assert [row["baseline"]["kind"] for row in written["val"]] == ["mean", "ridge", "ridge"]
    assert written["val"][2]["ccc_mean"] == result.scores[2][1].ccc_mean
    before = output.read_bytes()
    score_baselines(manifest=planted.manifest, store=planted.store, baselines=FEW, output=output)
    assert output.read_bytes() == before


def test_people_are_those_of_the_manifest(planted):
    rewrite(planted, val={"subject": "one"})
    ((_, score),) = score_baselines(
        manifest=planted.manifest, store=planted.store, baselines=(MeanConfig(),)
    ).scores
    assert score.n_subjects == 1
    assert score.ccc_mean_low is None
    rewrite(planted, train={"subject": "one"})
    with pytest.raises(InputError, match="two subjects"):
        score_baselines(manifest=planted.manifest, store=planted.store, baselines=FEW)


def test_a_val_split_without_an_annotated_row_is_refused(planted, tmp_path):
    for clip in read_manifest(planted.manifest).clips:
        if clip.split == "val":
            path = tmp_path / str(clip.labels)
            n = len(path.read_text().splitlines()) - 1
            path.write_text("valence,arousal\n" + "-5,-5\n" * n)
    with pytest.raises(InputError, match="no row of the val split is annotated"):
        score_baselines(manifest=planted.manifest, store=planted.store, baselines=FEW)


def test_rows_and_frames_may_be_apart_as_far_as_is_told(planted):
    keys = {"manifest": planted.manifest, "store": planted.store, "baselines": FEW[:1]}
    assert score_baselines(**keys, max_length_mismatch=1).scores
    with pytest.raises(InputError, match="allow more with max_length_mismatch=N"):
        score_baselines(**keys, max_length_mismatch=0)


def test_constant_labels_are_noted(planted, tmp_path):
    path = tmp_path / "train-0.txt"
    n = len(path.read_text().splitlines()) - 1
    path.write_text("valence,arousal\n" + "0.5,0.5\n" * n)
    result = score_baselines(manifest=planted.manifest, store=planted.store, baselines=FEW[:1])
    (note,) = result.notes
    assert note.startswith("train-0: every annotated row has the same label")


def test_a_folder_is_no_output(planted, tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="is a folder; give the name of a file"):
        score_baselines(manifest=planted.manifest, store=planted.store, output=tmp_path / "folder")
    with pytest.raises(InputError, match="is no folder; give another path"):
        score_baselines(
            manifest=planted.manifest, store=planted.store, output=planted.manifest / "b.json"
        )


def test_the_command_prints_a_table_and_names_wrong_kinds(planted, tmp_path, capsys):
    command = ["run", "baselines", f"manifest={planted.manifest}", f"store={planted.store}"]
    chosen = "baselines=[{kind: mean}, {kind: ridge, modalities: [audio], spans_s: [1]}]"
    assert main([*command, chosen, f"output={tmp_path / 'b.json'}"]) == 0
    said = capsys.readouterr().out
    assert "0.000" in said
    assert f"the scores are in {tmp_path / 'b.json'}" in said
    for wrong, message in (
        (
            "baselines=[{kind: rige}]",
            "mean, ridge, ridge_window, late_fusion, mlp, text",
        ),
        ("baselines=[]", "at least 1 item"),
        ("baselines=[{kind: mlp, passes: 0}]", "greater than or equal to 1"),
    ):
        assert main([*command, wrong]) == 2
        assert message in capsys.readouterr().err


def test_the_table_has_a_row_per_baseline_and_a_dash_without_an_interval(planted):
    rewrite(planted, val={"subject": "one"})
    result = score_baselines(manifest=planted.manifest, store=planted.store, baselines=FEW)
    table = baseline_table(result)
    assert list(table.columns[0].cells) == ["mean", "ridge", "ridge"]
    assert list(table.columns[1].cells) == ["all", "visual", "all"]
    assert [*table.columns[2].cells][:1] == ["0.000"]
    assert list(table.columns[5].cells) == ["-"] * 3
    assert baseline_name(RidgeConfig(spans_s=(1, 4))) == "ridge, spans_s=(1.0, 4.0)"


def test_progress_is_told_before_each_baseline(planted):
    told = []
    score_baselines(
        manifest=planted.manifest,
        store=planted.store,
        baselines=FEW,
        on_baseline=lambda baseline, total: told.append((baseline, total)),
    )
    assert told == [(config, 3) for config in FEW]


@pytest.mark.parametrize("streams", [("visual",), ("visual", "audio"), ("face", "body", "voice")])
def test_every_kind_is_scored_by_default_and_ridge_on_each_stream(streams):
    kinds = {"mean", "ridge", "ridge_window", "mlp", "text"}
    kinds |= {"late_fusion"} if len(streams) > 1 else set()
    baselines = every_baseline(streams)
    assert {config.kind for config in baselines} == kinds
    ridge = [config.streams for config in baselines if config.kind == "ridge"]
    assert ridge == [*([(name,) for name in streams] if len(streams) > 1 else []), None]


def test_text_is_left_out_with_a_note_unless_it_was_asked_for(planted, monkeypatch):
    weights = planted.store.replace("features.zarr", "tiny-0.safetensors")
    Path(weights).unlink()
    keys = {"manifest": planted.manifest, "store": planted.store}
    few = (MeanConfig(), TextConfig())
    monkeypatch.setattr("models.stages.baselines.every_baseline", lambda _: few)
    result = score_baselines(**keys)
    assert [baseline.kind for baseline, _ in result.scores] == ["mean"]
    (note,) = result.notes
    assert note.startswith("the baseline text is left out: ")
    with pytest.raises(InputError):
        score_baselines(**keys, baselines=(TextConfig(),))
