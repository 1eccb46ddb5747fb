import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from pydantic import ValidationError
from safetensors.torch import load_file

from features.errors import InputError, StoreError, VaflowError, WeightsError
from features.manifest.manifest import read_manifest, write_manifest
from features.store.feature_store import FeatureStore
from features.system.devices import torch_device
from models.baselines.predict import predict_baseline
from models.baselines.ridge import RidgeConfig
from models.baselines.text import TextConfig
from models.data.batch import Batch
from models.data.packed import Streaming
from models.data.train_val import load_splits, train_val_clips
from models.data.windows import dense_windows
from models.heads.dspl import DsplConfig, ReleasedConfig
from models.heads.windows import head_windows
from models.metrics.predict import concordance, predict
from models.metrics.smoothing import WINDOWS_S, smooth
from models.prediction.live_estimate import check_causal
from models.regions.prompts import FixedPrompts
from models.runs.checkpoint import load_head
from models.runs.code import code_by_module
from models.runs.folder import (
    CONFIG,
    HEAD_FILE,
    METRICS,
    PROVENANCE,
    TRAINING,
    RunConfig,
    read_config,
    read_metrics,
)
from models.runs.inputs import digest_inputs
from models.runs.run_split import open_split, read_split
from models.runs.threads import seeded
from models.stages import train_head as stage
from models.stages.fit_head import build_head
from models.stages.score_head import score_head
from models.stages.train_head import TrainResult, train_head
from models.training import loop
from models.training.config import TrainConfig, train_of_0_1
from models.training.loop import rate
from models.training.loss_config import LossConfig
from tests.helpers.small_heads import BRIEF, FULL, HEAD, without_region_loss, without_seconds
from tests.helpers.synthetic import AST_SPEC, Planted, plant, tiny_model, write_tiny_clip
from tests.helpers.two_streams import changed

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("without_figures")]

BRIEF_KEYS = {"window": 40, "stride": 40, "batch_size": 4, "learning_rate": 1e-2, "threads": 1}


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Planted:
    return plant(tmp_path_factory.mktemp("planted"))


@pytest.fixture
def small(tmp_path) -> Planted:
    """A set that a test may spoil."""
    return plant(tmp_path, ("train", "val"))


def train(planted, run, **changes) -> TrainResult:
    wanted = {"head": HEAD, "train": BRIEF, "manifest": planted.manifest, "store": planted.store}
    return train_head(run=run, **(wanted | changes))


@pytest.fixture(scope="module")
def brief(planted, tmp_path_factory) -> TrainResult:
    return train(planted, tmp_path_factory.mktemp("runs") / "brief")


def weights(result) -> bytes:
    return (result.run / HEAD_FILE).read_bytes()


def test_a_planted_signal_is_found(planted, tmp_path):
    seen = []
    result = train(planted, tmp_path, train=FULL, on_epoch=seen.append)
    assert result.state == "trained"
    assert result.kept.ccc_valence > 0.9
    assert result.kept.ccc_arousal > 0.9
    assert seen == list(result.epochs)
    assert read_metrics(result.run) == result.epochs
    for epoch in result.epochs:
        parts = (epoch.loss_valence, epoch.loss_arousal, epoch.loss_regions)
        assert sum(parts) == pytest.approx(epoch.loss, rel=1e-5)
        assert 0 < epoch.gradient_norm <= epoch.gradient_norm_max
        assert epoch.seconds > 0
    assert result.epochs[-1].ccc_train_valence > 0.8 > result.epochs[0].ccc_train_valence
    assert result.kept == max(result.epochs, key=lambda epoch: epoch.ccc_mean)


def test_the_same_run_again_gives_the_same_digits(planted, brief, tmp_path):
    torch.rand(7)  # what was drawn before must not matter
    again = train(planted, tmp_path)
    assert again.epochs == brief.epochs
    assert without_seconds(again.run) == without_seconds(brief.run)
    found, expected = load_file(again.run / HEAD_FILE), load_file(brief.run / HEAD_FILE)
    assert found.keys() == expected.keys()
    for name in found:
        assert torch.equal(found[name], expected[name]), name


def test_a_memory_limit_that_is_not_reached_changes_nothing(planted, brief, tmp_path):
    told = train(planted, tmp_path, train=BRIEF.model_copy(update={"bank_mib": 1}))
    assert told.epochs == brief.epochs
    assert told.notes == ()


def test_a_streamed_training_finds_the_signal_and_repeats_it(planted, tmp_path, monkeypatch):
    monkeypatch.setattr("models.data.placement.MIB", 20_000)  # 75 bytes a row, 6 clips of 130 rows
    streamed = FULL.model_copy(update={"bank_mib": 1})
    first, again = (train(planted, tmp_path / run, train=streamed) for run in "ab")
    assert first.kept.ccc_mean > 0.85
    assert "streamed, 240 of 780 rows at a time" in " ".join(first.notes)
    assert again.epochs == first.epochs
    reading = read_split(open_split(first.run, None, None, "val"))
    part = replace(reading.packed, streaming=Streaming(torch.device("cpu"), 50))
    assert np.array_equal(reading.source.predictor.predict(part).va, reading.prediction.va)


def test_the_run_s_own_config_repeats_it(brief, tmp_path):
    fields = yaml.safe_load((brief.run / CONFIG).read_text())
    assert list(fields) == list(RunConfig.model_fields)
    config = RunConfig.model_validate(fields | {"run": tmp_path})
    given = {name: getattr(config, name) for name in RunConfig.model_fields}
    assert train_head(**given).epochs == brief.epochs


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"clip_grad_norm": 1e-3}, {"weight_decay": 1.0}, {"warmup": 0.5}],
    ids=lambda change: next(iter(change)),
)
def test_each_setting_decides_the_result(planted, brief, tmp_path, change):
    assert train(planted, tmp_path, train=BRIEF.model_copy(update=change)).epochs != brief.epochs


def test_the_region_loss_shapes_valence_and_arousal(planted, brief, tmp_path):
    # one seed, and the same draws: only the loss is different
    without = train(planted, tmp_path, train=without_region_loss(BRIEF))
    assert without.kept.ccc_valence != brief.kept.ccc_valence
    assert without.kept.ccc_arousal != brief.kept.ccc_arousal
    found, shaped = load_file(without.run / HEAD_FILE), load_file(brief.run / HEAD_FILE)
    for name in ("va.3.weight", "adapter.up.weight", "branches.0.temporal.projection.weight"):
        assert not torch.equal(found[name], shaped[name]), name
    start = math.log(1 / 0.07)
    assert found["regions.log_scale"].item() == pytest.approx(start)
    assert abs(shaped["regions.log_scale"].item() - start) > 1e-3
    assert not torch.equal(found["prompts.context"], shaped["prompts.context"])


def test_the_region_loss_of_the_released_preset_moves_nothing(planted, tmp_path):
    # as it was released: frozen embedding, fixed prototypes, fixed scale
    head = ReleasedConfig(width=16, dropout=0.1)
    brief = BRIEF.model_copy(update={"causal_stride": 10, "causal_start_s": 0.0})
    kept = train(planted, tmp_path / "kept", head=head, train=brief)
    without = without_region_loss(brief)
    left_out = train(planted, tmp_path / "left_out", head=head, train=without)
    assert kept.kept.ccc_mean == left_out.kept.ccc_mean
    found, expected = load_file(kept.run / HEAD_FILE), load_file(left_out.run / HEAD_FILE)
    assert found.keys() == expected.keys()
    for name in found:
        assert torch.equal(found[name], expected[name]), name
    scored = score_head(run=kept.run).score
    assert scored.ccc_mean == pytest.approx(kept.kept.ccc_mean)


def test_a_dspl_head_with_the_released_switches_is_refused(planted, tmp_path):
    switches = ReleasedConfig(width=16).model_dump(exclude={"kind"})
    with pytest.raises(InputError, match="region loss reaches no parameter of the V/A output"):
        train(planted, tmp_path / "run", head=DsplConfig(**switches))


@pytest.fixture(scope="module")
def solved(planted, tmp_path_factory):
    """Heads on the planted set, where only the sound carries A and only the picture V."""
    folder = tmp_path_factory.mktemp("solved")

    def of(fusion: str) -> TrainResult:
        head = HEAD.model_copy(update={"fusion": fusion})
        settings = without_region_loss(FULL) if fusion == "audio" else FULL
        return train(planted, folder / fusion, head=head, train=settings)

    return {fusion: of(fusion) for fusion in ("visual", "audio", "concatenation", "gate")}


def test_visual_alone_fails_on_arousal_and_audio_alone_on_valence(solved):
    assert solved["visual"].kept.ccc_valence > 0.9
    assert abs(solved["visual"].kept.ccc_arousal) < 0.3
    assert solved["audio"].kept.ccc_arousal > 0.85
    assert abs(solved["audio"].kept.ccc_valence) < 0.3


@pytest.mark.parametrize("fusion", ["concatenation", "gate"])
def test_fused_both_are_solved(solved, fusion):
    assert solved[fusion].kept.ccc_valence > 0.9
    assert solved[fusion].kept.ccc_arousal > 0.9


def test_the_gate_leans_to_the_side_that_is_left(solved):
    reading = read_split(open_split(solved["gate"].run, None, None, "val"))
    head = load_head(solved["gate"].run / HEAD_FILE, reading.packed.device)
    windows = dense_windows(reading.packed.offsets, size=40, stride=40)
    batch, _ = reading.packed.gather(windows, np.arange(3))

    def mean_gate(shown: Batch) -> float:
        seen = {}
        fusion = head.fuse.gate
        original = fusion.gate_of_two
        fusion.gate_of_two = lambda *given: seen.setdefault("gate", original(*given))
        with torch.inference_mode():
            head(shown)
        del fusion.gate_of_two
        return seen["gate"].mean().item()

    dark = changed(batch, visual_valid=torch.zeros_like(batch["visual"].valid))
    quiet = changed(batch, audio_valid=torch.zeros_like(batch["audio"].valid))
    assert mean_gate(dark) < 0.1 < mean_gate(batch) < 0.9 < mean_gate(quiet)


def test_a_single_run_is_smoothed_with_widths_chosen_on_people_it_was_not_trained_on(
    planted, tmp_path
):
    settings = {"select": "inner", "smooth": True, "epochs": 4, "patience": None}
    result = train(planted, tmp_path, train=FULL.model_copy(update=settings))
    split = read_split(open_split(result.run, None, None, "val"))
    meta = split.source.predictor.meta
    widths_s = meta.widths_s.valence, meta.widths_s.arousal
    assert max(widths_s) > 0
    assert set(widths_s) <= set(WINDOWS_S)
    head = load_head(result.run / HEAD_FILE, torch.device("cpu"))
    windows = head_windows(split.packed, meta.head, size=meta.window, stride=meta.stride)
    raw = predict(head, split.packed, windows)
    np.testing.assert_array_equal(split.prediction.va, smooth(raw, split.packed, meta.widths_s).va)
    assert not np.array_equal(split.prediction.va, raw.va)
    with pytest.raises(InputError, match=r"smooths its predictions over time \(train.smooth\)"):
        check_causal(
            replace(
                split.source.predictor,
                meta=meta.model_copy(
                    update={"head": meta.head.model_copy(update={"windows": "causal"})}
                ),
            )
        )
    with pytest.raises(ValidationError, match="select last holds out none: set select to inner"):
        TrainConfig(smooth=True)


def test_a_region_loss_that_moves_nothing_is_refused(planted, tmp_path):
    frozen = HEAD.model_copy(update={"region_on": "frozen"})
    with pytest.raises(InputError, match="region loss reaches no parameter of the V/A output"):
        train(planted, tmp_path / "run", head=frozen)
    assert not (tmp_path / "run").exists()
    settings = without_region_loss(BRIEF)
    assert train(planted, tmp_path / "run", head=frozen, train=settings).state == "trained"


@pytest.mark.parametrize("weight", [0.0, 0.2])
def test_a_window_with_more_rows_than_learned_positions_is_refused(planted, tmp_path, weight):
    head = HEAD.model_copy(update={"temporal": "transformer", "positions": "learned"})
    loss = LossConfig(region_weight=weight)
    long = BRIEF.model_copy(update={"window": 1025, "loss": loss})
    with pytest.raises(InputError, match="1025 rows is longer than .* 1024 .* set train.window"):
        train(planted, tmp_path / "run", head=head, train=long)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("config", "key"), [(LossConfig, "sigma"), (TrainConfig, "mixup"), (RidgeConfig, "spans_s")]
)
def test_a_setting_without_end_is_refused(config, key):
    value = [float("inf")] if key == "spans_s" else float("inf")
    with pytest.raises(ValidationError, match="finite number"):
        config.model_validate({key: value})


def test_a_split_without_an_annotated_row_is_refused(small, tmp_path):
    for path in small.manifest.parent.glob("val-*.txt"):
        n_rows = len(path.read_text().splitlines()) - 1
        path.write_text("valence,arousal\n" + "-5,-5\n" * n_rows)
    with pytest.raises(InputError, match="no row of the split 'val' is annotated"):
        train(small, tmp_path / "run")


def test_a_folder_with_other_things_in_it_is_left_alone(planted, tmp_path):
    (tmp_path / "scores.json").write_text("mine")
    with pytest.raises(
        InputError, match="holds files that do not belong to a run; give another folder"
    ):
        train(planted, tmp_path)
    assert (tmp_path / "scores.json").read_text() == "mine"
    with pytest.raises(InputError, match="is no folder; give another path"):
        train(planted, tmp_path / "scores.json")


@pytest.mark.parametrize("config", [{"width": 10}, {"width": 15, "n_heads": 3}])
def test_a_width_that_cannot_be_divided_is_refused(config):
    with pytest.raises(ValidationError, match="must be even and a multiple of n_heads"):
        DsplConfig(**config)


@pytest.mark.parametrize("name", [HEAD_FILE, METRICS])
def test_a_damaged_run_is_trained_again_by_the_same_command(planted, brief, tmp_path, name):
    shutil.copytree(brief.run, tmp_path / "run")
    (tmp_path / "run" / name).write_bytes(b"damaged")
    again = train(planted, tmp_path / "run")
    assert again.state == "trained"
    assert again.epochs == brief.epochs


def test_a_finished_run_is_left_alone(planted, brief):
    before = {file: file.stat().st_mtime_ns for file in brief.run.iterdir()}
    again = train(planted, brief.run)
    assert again.state == "present"
    assert again.epochs == brief.epochs
    assert again.kept == brief.kept
    after = {file: file.stat().st_mtime_ns for file in brief.run.iterdir()}
    del before[brief.run / CONFIG], after[brief.run / CONFIG]
    assert after == before


def test_another_result_is_replaced_with_what_was_made_of_it(planted, tmp_path):
    first = train(planted, tmp_path)
    for name in ("scores.json", "predictions.csv", "submission.txt"):
        (tmp_path / name).write_text("old")
    second = train(planted, tmp_path, train=BRIEF.model_copy(update={"seed": 5}))
    assert second.state == "trained"
    assert second.epochs != first.epochs
    assert not (tmp_path / "scores.json").exists()
    assert not (tmp_path / "predictions.csv").exists()
    assert read_config(tmp_path).train.seed == 5


def test_a_finished_run_can_be_forced(planted, brief, tmp_path):
    for name in (CONFIG, METRICS, PROVENANCE, HEAD_FILE):
        (tmp_path / name).write_bytes((brief.run / name).read_bytes())
    assert train(planted, tmp_path).state == "present"
    assert train(planted, tmp_path, force=True).state == "trained"


def test_a_run_that_died_before_its_head_is_made_again(planted, brief, tmp_path):
    for name in (CONFIG, METRICS, PROVENANCE):
        (tmp_path / name).write_bytes((brief.run / name).read_bytes())
    assert train(planted, tmp_path).state == "trained"


@pytest.mark.parametrize("step", ["write_metrics", "prompt_words", "save_head"])
def test_a_training_that_is_killed_while_it_writes_leaves_no_head(
    planted, brief, tmp_path, monkeypatch, step
):
    for name in (CONFIG, METRICS, PROVENANCE, HEAD_FILE):
        (tmp_path / name).write_bytes((brief.run / name).read_bytes())
    assert train(planted, tmp_path).state == "present"

    write = getattr(stage, step)

    def killed(*arguments):
        if arguments[0] != tmp_path / TRAINING:  # where the epochs are written while it trains
            raise KeyboardInterrupt
        write(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(stage, step, killed)
        with pytest.raises(KeyboardInterrupt):
            train(planted, tmp_path, train=BRIEF.model_copy(update={"seed": 1}))

    assert not (tmp_path / HEAD_FILE).exists()
    assert train(planted, tmp_path).state == "trained"


def test_new_labels_make_a_new_head(small, tmp_path):
    run = tmp_path / "run"
    train(small, run)
    labels = small.manifest.parent / "val-1.txt"
    lines = labels.read_text().splitlines()
    labels.write_text("\n".join([*lines[:-1], "0.5,0.5"]) + "\n")
    assert train(small, run).state == "trained"
    assert train(small, run).state == "present"


def test_new_features_make_a_new_head(small, tmp_path):
    run = tmp_path / "run"
    train(small, run)
    store = FeatureStore.open(small.store)
    track = store.read(AST_SPEC.name, "val-1")
    store.write(AST_SPEC, "train-0", track, source={}, provenance={})
    assert train(small, run).state == "trained"


def test_the_run_says_what_it_was_made_of(brief, planted):
    made_by = json.loads((brief.run / PROVENANCE).read_text())
    assert made_by["inputs"]["streams"]["visual"]["digest"] == planted.visual.digest
    assert made_by["inputs"]["streams"]["audio"]["name"] == AST_SPEC.name
    assert len(made_by["inputs"]["clips"]["train"]) == 6
    assert made_by["encoders"]["visual"]["model"] == planted.clip.model
    assert made_by["seed"] == 0
    assert made_by["versions"]["torch"] == torch.__version__.split("+")[0]
    assert "git_commit" in made_by


def test_each_epoch_is_a_line(brief):
    lines = [json.loads(line) for line in (brief.run / METRICS).read_text().splitlines()]
    assert [line["index"] for line in lines] == [0, 1]
    assert lines[1]["ccc_mean"] == (lines[1]["ccc_valence"] + lines[1]["ccc_arousal"]) / 2


def test_training_stops_when_val_gets_no_better(planted, tmp_path):
    # a rate so small that the score cannot rise for long
    config = FULL.model_copy(update={"learning_rate": 1e-12, "patience": 2, "epochs": 9})
    result = train(planted, tmp_path, train=config)
    assert len(result.epochs) == result.kept.index + 1 + 2
    assert len(result.epochs) < 9


@pytest.mark.parametrize("select", ["last", "val", "inner"])
def test_the_weights_of_the_selected_epoch_are_kept(planted, tmp_path, monkeypatch, select):
    # the last of three epochs goes thirty times as fast, and spoils what was learned
    monkeypatch.setattr(
        "models.training.loop.rate",
        lambda step, n_steps, **_: 30 if 3 * step >= 2 * n_steps else 1,
    )
    config = TrainConfig(select=select, epochs=3, **BRIEF_KEYS)
    result = train(planted, tmp_path, train=config)
    spoiled = result.epochs[-1]
    assert len(result.epochs) == 3
    assert (result.kept == spoiled) == (select == "last")
    assert (spoiled.ccc_inner is None) == (select != "inner")
    assert (0 < result.kept.ccc_mean != spoiled.ccc_mean) == (select != "last")
    assert score_head(run=tmp_path).score.ccc_mean == result.kept.ccc_mean
    assert json.loads((tmp_path / PROVENANCE).read_text())["best_epoch"] == result.kept.index
    again = train(planted, tmp_path, train=config)
    assert (again.state, again.kept) == ("present", result.kept)
    lines = (tmp_path / METRICS).read_text()
    assert ("ccc_inner" in lines) == (select == "inner")  # else as earlier versions wrote it


def test_inner_trains_as_if_the_held_out_people_were_not_there(planted, tmp_path):
    keys = {"schedule": "constant", "inner_share": 0.4, **BRIEF_KEYS}
    result = train(planted, tmp_path / "a", train=TrainConfig(select="inner", epochs=2, **keys))
    held_out = json.loads((result.run / PROVENANCE).read_text())["held_out"]
    manifest = read_manifest(planted.manifest)
    assert len(held_out) == 2  # of 6 people, .4 are 2.4
    left = [
        clip.model_copy(update={"split": "test" if clip.id in held_out else clip.split})
        for clip in manifest.clips
    ]
    path = planted.manifest.parent / "left.jsonl"
    write_manifest(path, left)
    epochs = result.kept.index + 1
    others = train(planted, tmp_path / "b", manifest=path, train=TrainConfig(epochs=epochs, **keys))
    found, expected = (load_file(run / HEAD_FILE) for run in (result.run, others.run))
    for name in expected:
        assert torch.equal(found[name], expected[name]), name


def test_one_annotated_person_is_not_divided(small, tmp_path):
    with pytest.raises(InputError, match="split 'train' has 1 annotated subject: one is held out"):
        train(small, tmp_path / "run", train=TrainConfig(select="inner", **BRIEF_KEYS))
    assert not (tmp_path / "run").exists()


def test_a_run_of_the_version_before_is_not_replaced_unasked(small, tmp_path, monkeypatch):
    run, keys = tmp_path / "run", {"epochs": 1, **BRIEF_KEYS}
    with monkeypatch.context() as in_0_1:
        in_0_1.setattr("models.stages.train_head.code_digest", lambda _: None)
        before = train(small, run, train=train_of_0_1(TrainConfig(**keys)))
    kept = weights(before)

    with pytest.raises(InputError, match=r"train.select=val train.patience=5 to keep the run"):
        train(small, run, train=TrainConfig(**keys))

    assert weights(before) == kept
    told = TrainConfig(select="val", patience=5, **keys)
    found = train(small, run, train=told)
    assert found.state == "present"
    assert "of a version that did not record its code" in found.notes[-1]
    assert train(small, run, train=told, force=True).state == "trained"
    assert not train(small, run, train=told).notes
    assert train(small, run, train=TrainConfig(select="last", **keys)).state == "trained"
    assert train(small, run, train=TrainConfig(**keys)).state == "present"


def test_a_head_of_other_code_is_trained_again_and_scored_again_and_the_reason_is_said(
    small, tmp_path, monkeypatch
):
    run, brief = tmp_path / "run", TrainConfig(epochs=1, **BRIEF_KEYS)
    assert train(small, run, train=brief).reason == ""
    scored = score_head(run=run)
    assert score_head(run=run).state == "present"

    changed = {**code_by_module(), "models/nn/fusion.py": "0" * 64}
    monkeypatch.setattr("models.runs.code.code_by_module", lambda: changed)
    again = score_head(run=run)
    result = train(small, run, train=brief)

    assert (scored.state, again.state) == ("scored", "scored")
    assert result.state == "trained"
    assert result.reason == "the code that makes the numbers changed: models/nn/fusion.py"
    assert train(small, run, train=brief).state == "present"
    longer = brief.model_copy(update={"epochs": 2, "mixup": 0.5})
    reason = train(small, run, train=longer).reason
    assert reason == f"the settings changed: train.epochs 1 -> 2, train.mixup {brief.mixup} -> 0.5"
    labels = small.manifest.parent / "val-1.txt"
    labels.write_text(labels.read_text().replace("\n0.", "\n-0."))
    assert train(small, run, train=longer).reason == "the inputs changed: labels_sha256"


def test_the_released_head_is_trained_by_its_own_trainer(planted, tmp_path):
    head = ReleasedConfig(width=16)
    with pytest.raises(InputError, match=r"the train split gives 0 windows, .* \(it is 10\)"):
        train(planted, tmp_path, head=head, train=TrainConfig())  # clips of 5.2 s

    given = TrainConfig(causal_start_s=1.0, causal_stride_s=0.2, epochs=1, threads=1)
    result = train(planted, tmp_path / "run", head=head, train=given)

    config = read_config(result.run)
    own = ReleasedConfig.trainer | given.model_dump(exclude_unset=True)
    assert {key: getattr(config.train, key) for key in own} == own
    assert train(planted, result.run, head=head, train=given).state == "present"
    assert train(planted, result.run, head=head, train=config.train).state == "present"


def test_the_trainer_of_the_released_head_does_what_it_says(planted, tmp_path, monkeypatch):
    steps, plain = [], loop.step

    def watched(head, optimizer, batch, targets, *others):
        rate = optimizer.param_groups[0]["lr"]
        loss = plain(head, optimizer, batch, targets, *others)
        norm = torch.stack([w.grad.norm() for w in head.parameters() if w.grad is not None]).norm()
        steps.append((rate, len(targets.va), float(norm)))
        return loss

    monkeypatch.setattr(loop, "step", watched)
    given = {"causal_start_s": 1.0, "causal_stride_s": 0.3, "epochs": 2, "threads": 1}
    # 6 clips of 5.2 s have targets at 1, 1.3, ... 4.9 s: 84, which are 5 batches of 16, and 4
    head = ReleasedConfig(width=16)
    train(planted, tmp_path / "own", head=head, train=TrainConfig(**given))
    assert [step[:2] for step in steps] == [(1e-4, 16)] * 10
    assert max(norm for *_, norm in steps) > 0.02  # not clipped to the norm below
    steps.clear()
    clipped = TrainConfig(**given, clip_grad_norm=0.01, drop_last=False, schedule="cosine")
    train(planted, tmp_path / "other", head=head, train=clipped)
    assert [n for _, n, _ in steps] == [16, 16, 16, 16, 16, 4] * 2
    assert max(norm for *_, norm in steps) == pytest.approx(0.01, rel=1e-3)
    assert len({rate for rate, *_ in steps}) == 12


def test_a_training_that_diverges_says_so(planted, tmp_path):
    config = BRIEF.model_copy(update={"learning_rate": 1e30, "warmup": 0.0})
    with pytest.raises(VaflowError, match=r"loss is nan in epoch \d+: .*lower train.learning_rate"):
        train(planted, tmp_path / "run", train=config)
    assert not (tmp_path / "run").exists()


def test_the_rate_by_hand():
    # 10 steps, 2 of warm-up: 1/2, 1, then half a cosine over 8 steps from 1
    rates = [rate(step, n_steps=10, warmup=0.2) for step in range(10)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[6] == pytest.approx(0.5)
    assert rates[9] == pytest.approx((1 + math.cos(math.pi * 7 / 8)) / 2)
    assert rate(0, n_steps=10, warmup=0.0) == 1
    assert rate(1, n_steps=1, warmup=0.9) == 1  # after the last step nothing divides by 0
    constant = [rate(step, n_steps=10, warmup=0.2, decays=False) for step in range(10)]
    assert constant == [0.5, *[1.0] * 9]


def test_windows_that_leave_rows_out_are_refused():
    with pytest.raises(ValidationError, match=r"stride \(200\) must be at most window \(100\)"):
        TrainConfig(window=100)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="torch finds no GPU; give device=auto"):
        torch_device("cuda")
    assert torch_device("auto") == torch.device("cpu")


def test_settings_of_torch_are_given_back():
    state, n_threads = torch.get_rng_state(), torch.get_num_threads()
    with seeded(3, n_threads + 1):
        first = torch.rand(1)
        assert torch.get_num_threads() == n_threads + 1
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == n_threads
    with seeded(3, None):
        assert torch.equal(torch.rand(1), first)


def test_other_weights_than_the_features_were_made_with_are_refused(small, tmp_path):
    other = write_tiny_clip(tmp_path, seed=9)
    shutil.copyfile(other.pretrained, small.clip.pretrained)
    with pytest.raises(
        WeightsError, match=r"have the digest \w{12}, the features clip-.* were made"
    ):
        train(small, tmp_path / "run")


def test_a_record_that_does_not_name_its_encoder_is_refused(small, tmp_path):
    store = FeatureStore.open(small.store)
    track = store.read(small.visual.name, "train-0")
    store.write(small.visual, "train-0", track, source={}, provenance={})
    with pytest.raises(StoreError, match=r"'train-0' .* does not say which encoder made it"):
        train(small, tmp_path / "run")


def test_a_clip_without_labels_is_refused_before_anything_is_written(small, tmp_path):
    manifest = read_manifest(small.manifest)
    bare = [clip.model_copy(update={"labels": None}) for clip in manifest.clips]
    write_manifest(small.manifest, bare)
    with pytest.raises(InputError, match="2 clips to train on have no labels in the manifest"):
        train(small, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_towers_beside_the_text_tower_do_not_run(planted, tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("the visual tower ran")

    monkeypatch.setattr(type(tiny_model()), "encode_image", refuse)
    assert train(planted, tmp_path).state == "trained"


def test_no_epoch_depends_on_numpy_s_global_generator(planted, brief, tmp_path):
    np.random.seed(3)
    assert train(planted, tmp_path).epochs == brief.epochs


@pytest.mark.parametrize("residual", ["fused", "audio"])
def test_a_head_with_a_prior_starts_as_the_text_prediction_and_comes_back(
    planted, tmp_path, residual
):
    head = HEAD.model_copy(
        update={"prior": "zero_shot", "residual": residual, "prompts": FixedPrompts()}
    )
    still = BRIEF.model_copy(  # windows as long as a clip have no edges
        update={
            "epochs": 1,
            "learning_rate": 1e-30,
            "window": 140,
            "loss": LossConfig(region_weight=0),
        }
    )
    result = train(planted, tmp_path, head=head, train=still)
    splits = load_splits(planted.manifest, planted.store)
    text = predict_baseline(
        TextConfig(), splits.train, splits.val, splits.subject_by_clip, splits.read_regions
    )
    found = read_split(open_split(result.run, None, None, "val")).prediction
    np.testing.assert_allclose(found.va, text.va, atol=1e-4)
    assert result.kept.ccc_mean == pytest.approx(concordance(text, splits.val).ccc()[2], abs=1e-4)


def test_a_prior_is_trained_with_its_words_and_saved(planted, tmp_path):
    head = HEAD.model_copy(update={"prior": "zero_shot"})
    result = train(planted, tmp_path, head=head, train=without_region_loss(FULL))
    assert result.kept.ccc_mean > 0.8
    saved = load_file(result.run / HEAD_FILE)
    with torch.no_grad(), seeded(FULL.seed, 1):
        clips = train_val_clips(planted.manifest, planted.store)
        packed = clips.load(3).select(clips.ids("train"))
        start = build_head(head, clips, packed, torch.device("cpu")).state_dict()
    for name in ("prior.factor", "prior.shift", "prompts.context"):
        assert not torch.equal(saved[name], start[name]), name
    for name in ("prior.scale", "prior.n_rows", "prior.found_mean"):
        assert torch.equal(saved[name], start[name]), name
    assert load_head(result.run / HEAD_FILE, torch.device("cpu")).reads_regions
    scored = score_head(run=result.run).score
    assert scored.ccc_mean == pytest.approx(result.kept.ccc_mean)


def test_a_prior_of_causal_windows_starts_near_the_trailing_text_prediction(planted, tmp_path):
    head = HEAD.model_copy(update={"prior": "zero_shot", "windows": "causal"})
    still = BRIEF.model_copy(
        update={"epochs": 1, "learning_rate": 1e-30, "loss": LossConfig(region_weight=0)}
    )
    result = train(planted, tmp_path, head=head, train=still)
    assert result.state == "trained"
    assert load_file(result.run / HEAD_FILE)["prior.n_rows"].max() <= 20


def test_one_person_is_too_few_for_a_prior(planted, tmp_path):
    manifest = planted.manifest.with_name("one.jsonl")
    clips = read_manifest(planted.manifest).clips
    write_manifest(manifest, [clip.model_copy(update={"subject": "one"}) for clip in clips])
    head = HEAD.model_copy(update={"prior": "zero_shot"})
    with pytest.raises(InputError, match="clips of 2 subjects to train on, and has those of 1"):
        train(planted, tmp_path / "run", head=head, manifest=manifest)
    assert not (tmp_path / "run").exists()


def test_who_is_in_a_clip_decides_the_key_of_a_head_with_a_prior_alone(planted):
    manifest = planted.manifest.with_name("pairs.jsonl")
    clips = read_manifest(planted.manifest).clips
    write_manifest(manifest, [each.model_copy(update={"subject": each.id[-1:]}) for each in clips])
    groups = [train_val_clips(path, planted.store) for path in (planted.manifest, manifest)]
    for head, is_equal in ((HEAD, True), (HEAD.model_copy(update={"prior": "zero_shot"}), False)):
        one, other = (digest_inputs(each, head) for each in groups)
        assert (one == other) == is_equal
