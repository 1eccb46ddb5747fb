import pytest
from pydantic import TypeAdapter

from models.ablation.plan import Variant
from models.heads import AnyHeadConfig
from models.heads.dspl import DsplConfig
from models.runs.checkpoint import CheckpointMeta
from models.runs.folder import Inputs, RunConfig, SetUsed, run_key
from models.training.config import TrainConfig, train_of_0_1
from models.training.loss_config import LossConfig
from models.training.old_keys import OLD_KEYS, move_old_keys, with_old_keys

OLD_HEAD = {
    "windows": "dense",
    "ccc": "sequence",
    "valence_weight": 2.0,
    "arousal_weight": 1.0,
    "mse_weight": 0.0,
    "region_weight": 0.5,
    "region_labels": "soft",
    "sigma": 0.3,
    "prompts": {"n_context": 8, "init_std": 0.02, "texts": "nine_regions", "kind": "coop"},
    "width": 8,
    "asks": "both",
    "gate_partner": "image",
    "kind": "dspl",
}
HEAD = DsplConfig(width=8, query="all", gate_partner="first")
LOSS = LossConfig(ccc="sequence", valence_weight=2, region_weight=0.5, sigma=0.3)
USED = SetUsed(name="s", digest="d", records_sha256="r")
INPUTS = Inputs(
    streams={"visual": USED, "audio": USED},
    clips={"train": ["a"]},
    labels_sha256="l",
    texts_sha256="t",
)


def test_a_run_config_with_the_loss_in_the_head_means_the_same():
    fields = {"manifest": "m", "store": "s", "run": "r", "head": OLD_HEAD, "train": {"epochs": 3}}

    config = RunConfig.model_validate(fields)

    assert config.head == HEAD
    assert config.train == TrainConfig(epochs=3, loss=LOSS)
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config


def test_a_checkpoint_with_the_loss_in_the_head_means_the_same():
    fields = {
        "head": OLD_HEAD,
        "visual": "v",
        "audio": "a",
        "visual_width": 4,
        "audio_width": 4,
        "window": 10,
        "stride": 10,
        "key": "k",
    }

    meta = CheckpointMeta.model_validate(fields)

    assert (meta.head, meta.loss) == (HEAD, LOSS)
    assert CheckpointMeta.model_validate_json(meta.model_dump_json()) == meta


def test_a_row_of_an_ablation_with_the_loss_in_the_head_means_the_same():
    variant = Variant.model_validate({"head": {"fusion": "audio", "region_weight": 0}})

    assert variant.head == {"fusion": "audio"}
    assert variant.train == {"loss": {"region_weight": 0}}


def test_a_key_under_its_old_and_its_new_name_is_refused():
    fields = {"head": {"sigma": 0.3}, "train": {"loss": {"sigma": 0.4}}}

    with pytest.raises(ValueError, match="head.sigma is the old name of train.loss.sigma"):
        move_old_keys(fields)


def test_keys_that_are_not_old_stay_as_they_are():
    fields = {"head": {"kind": "dspl", "width": 8}, "train": {"epochs": 3}, "run": "r"}

    assert move_old_keys(fields) == fields
    assert move_old_keys({"head": None}) == {"head": None}


def test_every_old_key_leads_to_a_key_that_exists():
    fields = {
        "head": set(DsplConfig.model_fields),
        "train.loss": set(LossConfig.model_fields),
    }

    for new in OLD_KEYS.values():
        section, _, name = new.rpartition(".")
        assert name in fields[section]


def test_the_key_of_a_run_is_that_of_the_version_before():
    # sha256 written by version 0.1 for the same settings, with the loss in the head
    config = RunConfig(
        manifest="m",
        store="s",
        run="r",
        head=TypeAdapter(AnyHeadConfig)
        .validate_python(HEAD.model_dump())
        .for_streams(("visual", "audio"), ("visual",)),
        train=train_of_0_1(TrainConfig(epochs=3, loss=LOSS)),
    )

    assert (
        run_key(config, INPUTS)
        == "14220d4f818e373a7ad9dd0cc8d25f7f192890214956cfdd3c601a4e49f4ec93"
    )


def test_a_loss_key_of_a_later_version_decides_the_key_of_a_run():
    train = {"epochs": 3, "loss": {"sigma": 0.4, "huber_weight": 0.5}}

    old = with_old_keys({"kind": "dspl"}, train)

    assert old == {
        "head": {"kind": "dspl", "sigma": 0.4},
        "train": {"epochs": 3, "loss": {"huber_weight": 0.5}},
    }


def test_a_new_key_enters_the_key_of_a_run_unless_it_means_what_the_version_before_did():
    head = {"kind": "dspl", "prompts": {"kind": "coop"}}
    as_before = head | {"prior": "none", "prompts": {"kind": "coop", "control": "none"}}
    other = head | {"prior": "zero_shot", "prompts": {"kind": "coop", "control": "permuted"}}

    assert with_old_keys(as_before, {"epochs": 3}) == {"head": head, "train": {"epochs": 3}}
    assert with_old_keys(other, {"epochs": 3})["head"] == other
