"""Heads on any list of feature sets: three, one, or some that are missing at use."""

import json
import re
import shutil
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from features.clip import Track
from features.errors import InputError
from features.manifest.manifest import read_manifest
from features.store.feature_store import FeatureStore
from flows.command.main import main
from models.baselines.late_fusion import LateFusionConfig
from models.baselines.ridge import RidgeConfig
from models.metrics.predict import concordance
from models.runs.checkpoint import load_head
from models.runs.folder import HEAD_FILE
from models.runs.run_split import open_split, read_split
from models.stages import trials
from models.stages.ablate import ablate
from models.stages.baselines import score_baselines
from models.stages.score_head import score_head
from models.stages.train_head import TrainResult, train_head
from models.training.loss_config import LossConfig
from tests.helpers.small_heads import BRIEF, FULL, HEAD
from tests.helpers.synthetic import AST_SPEC, Planted, plant
from tests.helpers.two_streams import changed

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("without_figures")]

NOISE_SPEC = AST_SPEC.model_copy(update={"model": {"name": "noise"}})


@dataclass(frozen=True)
class ThreeSets:
    """A data set with a third feature set, which says nothing."""

    planted: Planted

    @property
    def streams(self) -> dict[str, str | None]:
        return {
            "face": self.planted.visual.name,
            "voice": AST_SPEC.name,
            "noise": NOISE_SPEC.name,
        }

    def train(self, run, **changes) -> TrainResult:
        keys = {"head": HEAD, "train": FULL, "streams": self.streams}
        inputs = {"manifest": self.planted.manifest, "store": self.planted.store}
        return train_head(run=run, **(inputs | keys | changes))


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> ThreeSets:
    planted = plant(tmp_path_factory.mktemp("three"))
    store, rng = FeatureStore.open(planted.store), np.random.default_rng(5)
    for clip_id in store.clip_ids(AST_SPEC.name):
        sound = store.read(AST_SPEC.name, clip_id)
        n_steps = len(sound.time_s) // 2  # on a clock of its own
        values = rng.standard_normal((n_steps, 7)).astype(np.float16)
        track = Track(values, 0.1 + 0.2 * np.arange(n_steps), np.ones(n_steps, bool))
        store.write(NOISE_SPEC, clip_id, track, source={}, provenance={})
    return ThreeSets(planted)


@pytest.fixture(scope="module")
def trained(sets, tmp_path_factory) -> TrainResult:
    return sets.train(tmp_path_factory.mktemp("runs") / "three")


def test_a_head_on_three_streams_finds_what_is_in_each_and_is_scored(sets, trained):
    assert trained.kept.ccc_valence > 0.9  # in the face
    assert trained.kept.ccc_arousal > 0.9  # in the voice
    assert score_head(run=trained.run).score.ccc_mean == pytest.approx(trained.kept.ccc_mean)
    assert sets.train(trained.run).state == "present"
    fewer = {name: sets.streams[name] for name in ("face", "voice")}
    assert sets.train(trained.run, streams=fewer, train=BRIEF).state == "trained"
    assert sets.train(trained.run).state == "trained"  # for the other tests


def test_the_gate_leans_away_from_a_stream_that_is_noise(trained):
    head = load_head(trained.run / HEAD_FILE, torch.device("cpu"))
    seen = {}
    head.fuse.gate.register_forward_hook(lambda module, given, _: seen.update(given=given))
    source = read_split(open_split(trained.run, None, None, "val"))
    source.source.predictor.predict(source.packed)
    batch, _ = source.packed.gather(_windows(source), np.array([0]))
    with torch.inference_mode():
        head(batch)
        streams, valid = seen["given"]
        projected = [
            linear(x) for linear, x in zip(head.fuse.gate.projections, streams, strict=True)
        ]
        passed = head.fuse.gate.gates(projected, valid) * torch.stack(projected)  # (K, B, T, W)
    face, voice, noise = passed.std(dim=(1, 2)).mean(dim=-1).tolist()
    assert noise < 0.4 * min(face, voice)


def _windows(split):
    from models.heads.windows import head_windows

    meta = split.source.predictor.meta
    return head_windows(split.packed, meta.head, size=meta.window, stride=meta.stride)


def test_sound_alone_is_enough_and_needs_no_prompts(sets, tmp_path):
    head = HEAD.model_copy(update={"prompts": None})
    result = sets.train(tmp_path / "run", head=head, streams={"voice": AST_SPEC.name})
    assert result.kept.ccc_arousal > 0.9
    assert abs(result.kept.ccc_valence) < 0.6  # it is in the face
    found = read_split(open_split(result.run, None, None, "val"), regions=True)
    assert found.prediction.regions is None
    assert not found.prediction.interpolated.any()
    score_head(run=result.run)
    assert "voice features" in (result.run / "report.html").read_text()
    no_loss = BRIEF.model_copy(update={"loss": LossConfig(region_weight=0)})
    alone = sets.train(tmp_path / "other", train=no_loss, streams={"voice": AST_SPEC.name})
    assert alone.state == "trained"
    with pytest.raises(
        InputError, match=r"head.prompts describe .* and of voice none is: set prompts to null"
    ):
        sets.train(tmp_path / "refused", streams={"voice": AST_SPEC.name})
    assert not (tmp_path / "refused").exists()


def test_a_head_without_prompts_reads_every_set_of_a_store(sets, tmp_path):
    head = HEAD.model_copy(update={"prompts": None})
    result = sets.train(tmp_path / "run", head=head, train=BRIEF, streams=None)
    names = json.loads((result.run / "provenance.json").read_text())["inputs"]["streams"]
    assert set(names) == {"visual", "audio", "ast"}


def test_faces_alone_of_an_encoder_without_texts_are_enough(sets, tmp_path):
    source = FeatureStore.open(sets.planted.store)
    spec = sets.planted.visual.model_copy(update={"kind": "timm", "model": {"name": "planted"}})
    store = FeatureStore.open(tmp_path / "s.zarr", create=True)
    for clip_id in source.clip_ids(sets.planted.visual.name):
        track = source.read(sets.planted.visual.name, clip_id)
        store.write(spec, clip_id, track, source={}, provenance={})
    inputs = {"store": str(store.path), "streams": None}
    with pytest.raises(InputError, match="none is: set prompts to null"):
        sets.train(tmp_path / "refused", train=BRIEF, **inputs)
    head = HEAD.model_copy(update={"prompts": None})
    result = sets.train(tmp_path / "run", head=head, **inputs)
    assert result.kept.ccc_valence > 0.9  # in the face
    assert score_head(run=result.run).score.ccc_mean == pytest.approx(result.kept.ccc_mean)


def test_three_streams_are_ablated_one_by_one(sets, tmp_path, monkeypatch):
    monkeypatch.setattr(trials, "map_in_processes", lambda f, items, *_: map(f, items))
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        "groups:\n  - name: streams\n    variants:\n      face: {head: {fusion: face}}\n"
        "      voice: {head: {fusion: voice}, train: {loss: {region_weight: 0}}}\n"
        "      noise: {head: {fusion: noise}, train: {loss: {region_weight: 0}}}\n"
    )
    result = ablate(
        manifest=sets.planted.manifest,
        store=sets.planted.store,
        run=tmp_path / "out",
        variants=str(plan),
        seeds=1,
        head=HEAD,
        train=BRIEF,
        streams=sets.streams,
        workers=1,
    )
    assert result.failed == ()
    found = {row.row: row for row in result.rows}
    assert {*sets.streams} < {*found}
    assert found["face"].ccc_valence > found["noise"].ccc_valence + 0.3
    assert found["voice"].ccc_arousal > found["noise"].ccc_arousal + 0.3


def test_a_stream_that_no_annotated_row_has_is_named_with_its_remedy(sets, tmp_path):
    silent = AST_SPEC.model_copy(update={"model": {"name": "silent"}})
    store = FeatureStore.open(sets.planted.store)
    empty = Track(np.zeros((0, 7), np.float16), np.zeros(0), np.zeros(0, bool))
    for clip_id in store.clip_ids(AST_SPEC.name):
        store.write(silent, clip_id, empty, source={}, provenance={})
    streams = {"face": sets.planted.visual.name, "quiet": silent.name}
    message = rf"'quiet' \({silent.name} in .*\) is valid in none of the .*streams=\{{face: clip-"
    with pytest.raises(InputError, match=message):
        sets.train(tmp_path / "run", streams=streams, train=BRIEF)
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match=message):
        score_baselines(manifest=sets.planted.manifest, store=sets.planted.store, streams=streams)
    shutil.rmtree(store.path / silent.name)


def test_labels_at_other_times_than_the_rows_are_refused(sets, tmp_path):
    for clip in read_manifest(sets.planted.manifest).clips:
        if clip.labels:
            (tmp_path / clip.labels).write_text("time_s,valence,arousal\n900,0,0\n901,0.1,0\n")
    manifest = tmp_path / "m.jsonl"
    manifest.write_bytes(sets.planted.manifest.read_bytes())
    inputs = {"manifest": manifest, "store": sets.planted.store}
    with pytest.raises(InputError, match="no row to train on is annotated: all labels lie before"):
        train_head(run=tmp_path / "run", head=HEAD, train=BRIEF, **inputs)


@pytest.mark.parametrize(
    ("streams", "message"),
    [
        ("clip-1", r"streams = 'clip-1': streams are feature sets by names of yours, such as \{f"),
        (
            "{Face: clip-1}",
            "streams.Face = 'Face': 'Face' cannot be the name of a stream, which has",
        ),
        ("{all: clip-1}", "streams.all = 'all': a stream cannot be called 'all', which means"),
        ("{a: clip-1, a: ast-1}", "the key 'a' comes twice; remove or rename one"),
        ("{face: faces-1}", "'face' is of faces-1, which says where faces are and is no input of"),
    ],
)
def test_streams_that_cannot_be_meant_are_answered_with_what_to_write(
    sets, capsys, streams, message
):
    words = [f"manifest={sets.planted.manifest}", f"store={sets.planted.store}", "run=r"]
    assert main(["run", "train-head", *words, f"streams={streams}"]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_baselines_read_each_stream_and_all(sets):
    result = score_baselines(
        manifest=sets.planted.manifest,
        store=sets.planted.store,
        baselines=(RidgeConfig(streams=("noise",)), RidgeConfig(), LateFusionConfig()),
        streams=sets.streams,
    )
    (_, noise), (_, every), (_, late) = result.scores
    assert noise.ccc_mean < 0.2
    assert every.ccc_mean > 0.8
    assert late.ccc_mean > 0.8
    with pytest.raises(InputError, match="reads the stream 'body', and the streams are face, vo"):
        score_baselines(
            manifest=sets.planted.manifest,
            store=sets.planted.store,
            baselines=(RidgeConfig(streams=("body",)),),
            streams=sets.streams,
        )


def test_a_head_trained_with_stream_dropout_survives_a_missing_stream(sets, tmp_path):
    streams = {name: sets.streams[name] for name in ("face", "voice")}
    found = {}
    for probability in (0.0, 0.5):
        train = FULL.model_copy(update={"stream_dropout": probability})
        run = sets.train(tmp_path / f"{probability}", train=train, streams=streams).run
        split = read_split(open_split(run, None, None, "val"))
        mute = torch.zeros_like(split.packed["voice"].valid)
        silent = changed(split.packed, voice_valid=mute, voice=0 * split.packed["voice"].values)
        prediction = split.source.predictor.predict(silent)
        found[probability] = concordance(prediction, silent).valence.ccc()
    assert found[0.0] < 0.9 < found[0.5]  # valence is in the face
