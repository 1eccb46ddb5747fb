from functools import partial
from pathlib import Path

import pytest

from features.encoders.ast import AstConfig
from features.encoders.clip import ClipConfig
from features.errors import InputError
from flows.keys.settings import check_key_names, checked_keys, settings
from flows.stage_functions import stage_name
from flows.stages import extract_features
from models.heads.dspl import DsplConfig, ReleasedConfig
from models.regions.prompts import FixedPrompts
from models.stages.train_head import train_head
from models.training.config import TrainConfig, preset_train
from models.training.loss_config import LossConfig

EXPERIMENT = """
manifest: m.jsonl
store: s.zarr
run: r
encoders:
  - {kind: clip, model: ViT-B-32, pretrained: openai}
  - {kind: ast, hop_s: 1.28}
head: {kind: dspl, width: 64}
train: {epochs: 3}
"""


@pytest.fixture
def config(tmp_path) -> Path:
    path = tmp_path / "e.yaml"
    path.write_text(EXPERIMENT)
    return path


def test_each_stage_takes_its_keys_from_the_config_of_an_experiment(config):
    found = settings(extract_features, config, [])
    assert found["encoders"] == (
        ClipConfig(model="ViT-B-32", pretrained="openai"),
        AstConfig(hop_s=1.28),
    )
    assert found["manifest"] == Path("m.jsonl")
    assert "head" not in found
    assert settings(train_head, config, [])["train"].epochs == 3


def test_overrides_reach_into_configs_and_lists(config):
    found = settings(
        extract_features,
        config,
        ["encoders.1.hop_s=2.56", "store=other", "force=true"],
    )
    assert found["encoders"][1].hop_s == 2.56
    assert (found["store"], found["force"]) == ("other", True)
    trained = settings(train_head, config, ["head.width=32", "train.learning_rate=1e-2"])
    assert (trained["head"].width, trained["train"].learning_rate) == (32, 0.01)
    assert trained["train"].epochs == 3  # what is not overridden stays


def test_a_folder_may_have_a_number_for_a_name(config):
    found = settings(train_head, config, ["run=2024", "store=7"])
    assert (found["run"], found["store"]) == (Path("2024"), "7")


def test_an_override_of_a_default_keeps_the_rest_of_the_default():
    given = ["manifest=m", "store=s", "run=r", "head.width=32", "train.seed=4"]
    found = settings(train_head, None, given)
    assert found["head"].kind == "dspl"
    assert (found["head"].width, found["train"].seed) == (32, 4)


@pytest.mark.parametrize("with_config", [True, False])
def test_a_head_of_another_kind_is_that_preset_as_published(tmp_path, with_config):
    config = tmp_path / "e.yaml"
    config.write_text(
        "{manifest: m, store: s, run: r, head: {kind: dspl, width: 64, prompts: {kind: coop}}, "
        "train: {epochs: 3}}"
    )
    given = ["manifest=m", "store=s", "run=r", "head.dropout=0.1", "head.kind=released"]

    found = settings(train_head, config if with_config else None, given)

    assert found["head"] == ReleasedConfig(dropout=0.1)
    assert found["train"] == TrainConfig(epochs=3 if with_config else 15)


@pytest.mark.parametrize("file", ["", "train: {epochs: 3}"])
def test_a_key_of_train_leaves_the_others_to_the_preset(tmp_path, file):
    (tmp_path / "e.yaml").write_text(f"manifest: m\nstore: s\n{file}\n")
    given = ["run=r", "head.kind=released", "train.seed=4", "train.loss.sigma=0.3"]

    found = settings(train_head, tmp_path / "e.yaml", given)

    resolved = preset_train(found["head"], found["train"])
    own = ReleasedConfig.trainer | ({"epochs": 3} if file else {}) | {"seed": 4}
    assert {key: getattr(resolved, key) for key in own} == own
    assert resolved.loss.sigma == 0.3


def test_a_config_with_patience_alone_means_what_it_meant(tmp_path):
    (tmp_path / "e.yaml").write_text("train: {patience: 5}")
    given = ["manifest=m", "store=s", "run=r"]

    assert settings(train_head, tmp_path / "e.yaml", given)["train"].select == "val"
    assert settings(train_head, None, [*given, "train.patience=2"])["train"].select == "val"
    with pytest.raises(InputError, match="train = .*select is last, which trains all epochs"):
        settings(train_head, tmp_path / "e.yaml", [*given, "train.select=last"])


def test_prompts_of_another_kind_keep_the_texts(tmp_path):
    config = tmp_path / "e.yaml"
    config.write_text("head: {kind: dspl, prompts: {kind: coop, n_context: 4, texts: mine.yaml}}")
    given = ["manifest=m", "store=s", "run=r", "head.prompts.kind=fixed"]

    found = settings(train_head, config, given)

    assert found["head"].prompts == FixedPrompts(texts="mine.yaml")


def test_a_config_with_the_loss_in_the_head_means_the_same(tmp_path):
    config = tmp_path / "e.yaml"
    config.write_text("head: {kind: dspl, asks: image, sigma: 0.3}")

    found = settings(train_head, config, ["manifest=m", "store=s", "run=r"])

    assert found["head"] == DsplConfig(query="visual")
    assert found["train"].loss == LossConfig(sigma=0.3)


def test_the_feature_sets_of_the_only_two_streams_may_have_their_old_keys_in_a_file(tmp_path):
    config = tmp_path / "e.yaml"
    given = ["manifest=m", "store=s", "run=r"]
    config.write_text("visual: clip-1")
    assert settings(train_head, config, given)["streams"] == {"visual": "clip-1", "audio": None}
    with pytest.raises(InputError, match="'visual' is now called 'streams': write streams="):
        settings(train_head, None, [*given, "visual=clip-1"])
    config.write_text("visual: clip-1\nstreams: {face: clip-1}")
    with pytest.raises(InputError, match="streams replaces visual: leave it out"):
        settings(train_head, config, given)
    named = settings(train_head, None, [*given, "streams={face: clip-1, voice: ast-1}"])["streams"]
    assert list(named.items()) == [("face", "clip-1"), ("voice", "ast-1")]
    assert settings(train_head, None, [*given, "streams.face=clip-1"])["streams"] == {
        "face": "clip-1"
    }
    for wrong in ("streams={Face: clip-1}", "streams={va: clip-1}", "streams={x_valid: clip-1}"):
        with pytest.raises(InputError, match="streams"):
            settings(train_head, None, [*given, wrong])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("encoders.0.modle=x", "unknown key 'encoders.0.modle'; the nearest .* is 'model'"),
        (
            "encoders.0.kind=clap",
            "encoders.0.kind = 'clap': .* kinds are clip, ast, .* the nearest is 'clip'",
        ),
        ("encoders.1.hop_s=-1", "encoders.1.hop_s = -1: Input should be greater than 0"),
        ("encoders.7.kind=clip", "'7' is no index of a list of 2"),
        ("encoders=[]", "encoders = .*: .*at least 1 item"),
        ("stroe=x", "unknown key 'stroe'; the nearest valid one is 'store'"),
        ("train.epochs=3", "'train' is a key of other stages, not of this one"),
        ("store.x=1", "'store' holds 's.zarr', which has no key 'x'"),
        ("batch_size=many", "batch_size = 'many': Input should be a valid integer"),
        ("batch_size=0", "batch_size = 0: Input should be greater than or equal to 1"),
        ("readers=0", "readers = 0: Input should be greater than or equal to 1"),
        ("store", "'store' is no override; write key=value"),
        ("store={", "the value of 'store={' is not YAML"),
    ],
)
def test_a_wrong_override_is_named(config, override, message):
    with pytest.raises(InputError, match=message):
        settings(extract_features, config, [override])


def test_a_text_that_yaml_would_refuse_or_fold_is_taken_as_it_is(config):
    name = "caf\udce9 \u2028 4.05\u202fPM\x85"
    given = [f"manifest={name}/m.jsonl", f"store={name}.zarr", f"encoders.0.pretrained={name}"]
    found = settings(extract_features, config, given)
    assert found["manifest"] == Path(f"{name}/m.jsonl")
    assert found["store"] == f"{name}.zarr"
    assert found["encoders"][0].pretrained == name
    several_lines = "limits={wall_s: 7,\n cpu_s: 8}"  # YAML, all the same
    assert settings(extract_features, config, [several_lines])["limits"].cpu_s == 8
    with pytest.raises(InputError, match="is not YAML"):
        settings(extract_features, config, ["limits={\n"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stroe: x", "unknown key 'stroe'; the nearest valid one is 'store'"),
        ("- a", "must hold keys and values"),
        ("a: [", "is not YAML"),
    ],
)
def test_a_wrong_config_is_named(tmp_path, text, message):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        settings(extract_features, tmp_path / "bad.yaml", [])


def test_a_config_that_is_not_there_and_a_missing_key_are_named(tmp_path, config):
    with pytest.raises(InputError, match="cannot be read"):
        settings(extract_features, tmp_path / "none.yaml", [])
    with pytest.raises(InputError, match="the key 'encoders' is missing"):
        settings(extract_features, None, ["manifest=m", "store=s"])


def test_an_unknown_stage_is_answered_with_the_nearest():
    with pytest.raises(InputError, match="no stage 'train'; did you mean 'train-head'"):
        stage_name("train")


def test_what_is_deployed_is_overridden_key_by_key_and_stays_as_it_is():
    deployed = {"manifest": "m", "store": "s", "run": "r", "train": {"epochs": 3, "seed": 5}}
    found = checked_keys(train_head, None, ["train.epochs=4", "run=other"], deployed)
    assert found.model_dump(mode="json", exclude_unset=True) == {
        "manifest": "m",
        "store": "s",
        "run": "other",
        "train": {"epochs": 4, "seed": 5},
    }
    assert deployed["train"] == {"epochs": 3, "seed": 5}


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("train.epohcs", "unknown key 'train.epohcs'; the nearest valid one is 'epochs'"),
        ("train.loss.sgma", "unknown key 'train.loss.sgma'; the nearest valid one is 'sigma'"),
        ("train.los.sigma", "unknown key 'train.los'; the nearest valid one is 'loss'"),
        ("head.prompts.textx", "unknown key 'head.prompts.textx'; the nearest .* is 'texts'"),
    ],
)
def test_a_misspelt_key_of_a_config_is_answered_before_a_stage_is_loaded_and_with_it(key, message):
    for check in (check_key_names, partial(settings, train_head, None)):
        with pytest.raises(InputError, match=message):
            check([f"{key}=3"])


def test_names_are_checked_before_a_stage_is_loaded_only_as_far_as_they_are_known():
    check_key_names(["head.sigma=1", "train.epochs.x=1", "encoders.0.modle=x", "train.epochs=3"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("max_rows_apart=4", "'max_rows_apart' is now called 'max_length_mismatch'"),
        ("head.sigma=0.3", "'head.sigma' is now called 'train.loss.sigma'"),
    ],
)
def test_an_old_key_on_the_command_line_is_answered_with_the_new_one(config, override, message):
    with pytest.raises(InputError, match=message):
        settings(train_head, config, [override])


def test_old_keys_in_a_file_are_read(tmp_path):
    path = tmp_path / "old.yaml"
    path.write_text("max_rows_apart: 5\nhead: {kind: dspl, sigma: 0.3, width: 32}\n")
    found = settings(train_head, path, ["manifest=m", "store=s", "run=r", "train.epochs=2"])
    assert found["max_length_mismatch"] == 5
    assert (found["head"].width, found["train"].loss.sigma, found["train"].epochs) == (32, 0.3, 2)


def test_a_head_may_be_the_path_of_its_config(tmp_path, config):
    found = settings(train_head, config, ["head=configs/heads/released.yaml", "head.width=32"])
    assert found["head"] == ReleasedConfig(width=32)
    (tmp_path / "head.yaml").write_text("kind: dspl\nwidth: 16\nsigma: 0.3\n")  # an old key, too
    (tmp_path / "e.yaml").write_text(f"head: {tmp_path / 'head.yaml'}\n")
    words = ["manifest=m", "store=s", "run=r", "head.dropout=0"]
    found = settings(train_head, tmp_path / "e.yaml", words)
    assert found["head"] == DsplConfig(width=16, dropout=0)
    assert found["train"].loss.sigma == 0.3
    with pytest.raises(InputError, match="none.yaml cannot be read"):
        settings(train_head, config, ["head=none.yaml"])


@pytest.mark.parametrize("kind", ["dspl", "released"])
def test_texts_may_be_given_without_prompts(tmp_path, kind):
    (tmp_path / "e.yaml").write_text(f"head: {{kind: {kind}, width: 32}}\n")
    words = ["manifest=m", "store=s", "run=r", "head.prompts.texts=mine.yaml"]
    prompts = settings(train_head, tmp_path / "e.yaml", words)["head"].prompts
    default = {"dspl": DsplConfig, "released": ReleasedConfig}[kind]().prompts
    assert prompts == default.model_copy(update={"texts": "mine.yaml"})


@pytest.mark.parametrize(
    "words", [["head.width=32", "head.kind=released"], ["head.kind=released", "head.width=32"]]
)
def test_another_kind_of_head_is_the_preset_as_published(config, words):
    assert settings(train_head, config, words)["head"] == ReleasedConfig(width=32)
    assert settings(train_head, config, ["head.kind=released"])["head"] == ReleasedConfig()


def test_another_kind_of_prompts_keeps_the_texts(config):
    words = ["head.prompts.kind=fixed", "head.prompts.texts=mine.yaml"]
    found = settings(train_head, config, words)["head"]
    assert (found.prompts.kind, found.prompts.texts, found.width) == ("fixed", "mine.yaml", 64)


def test_a_kind_that_does_not_exist_is_named(config):
    with pytest.raises(InputError, match="head.kind = 'dsp': .*nearest is 'dspl'"):
        settings(train_head, config, ["head.kind=dsp"])
