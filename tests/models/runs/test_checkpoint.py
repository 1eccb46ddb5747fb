import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from features.errors import InputError
from models.data.statistics import Statistics
from models.heads.base import Head, HeadInputs
from models.heads.dspl import DsplConfig
from models.regions.prototypes import CoopPrototypes
from models.regions.texts_file import read_texts
from models.regions.whole_tower import open_tower
from models.runs.checkpoint import (
    FORMAT,
    META_KEY,
    CheckpointMeta,
    StreamMeta,
    load_head,
    read_meta,
    save_head,
)
from models.runs.folder import HEAD_FILE
from tests.helpers.synthetic import tiny_model
from tests.helpers.two_streams import two_stream_batch

CPU = torch.device("cpu")
CONFIG = DsplConfig(width=8)
META = CheckpointMeta(
    head=CONFIG,
    streams={
        "visual": StreamMeta(feature_set="clip-1", modality="visual", width=16),
        "audio": StreamMeta(feature_set="ast-1", modality="audio", width=12),
    },
    window=30,
    stride=20,
    key="k",
)


def words(texts: list[str]) -> torch.Tensor:
    """A tokenizer of length 77 in which the end token, 49407, is the highest number."""
    tokens = torch.zeros(len(texts), 77, dtype=torch.long)
    for row, text in zip(tokens, texts, strict=True):
        ids = [49406, *(hash(word) % 1000 for word in text.split()), 49407]
        row[: len(ids)] = torch.tensor(ids)
    return tokens


@pytest.fixture(scope="module")
def head() -> Head:
    tower, texts = open_tower(tiny_model(), words), read_texts("nine_regions")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        inputs = HeadInputs(
            {
                "visual": Statistics(torch.randn(16), torch.rand(16) + 0.5),
                "audio": Statistics(torch.randn(12), torch.rand(12) + 0.5),
            },
            ("visual",),
            lambda prompts: prompts.build(tower, texts),
        )
        built = CONFIG.build(inputs)
        for parameter in built.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return built.eval()


@pytest.fixture
def saved(head, tmp_path):
    path = tmp_path / HEAD_FILE
    save_head(path, head.state_dict(), head.prototypes(), META)
    return path


def test_a_head_comes_back_as_it_was(head, saved):
    assert isinstance(head.prompts, CoopPrototypes)
    loaded = load_head(saved, CPU)
    assert read_meta(saved) == META
    assert not loaded.training
    mask = torch.ones(2, 5, dtype=torch.bool)
    batch = two_stream_batch(torch.randn(2, 5, 16), mask, torch.randn(2, 5, 12), mask)
    before, after = head(batch, head.prototypes()), loaded(batch, loaded.prototypes())
    torch.testing.assert_close(after.va, before.va, rtol=0, atol=0)
    torch.testing.assert_close(after.regions.logits, before.regions.logits, rtol=0, atol=0)


def test_what_was_learned_of_the_prompts_is_in_the_file(head, saved):
    torch.testing.assert_close(load_file(saved)["prompts.context"], head.prompts.context.detach())


def test_nothing_is_left_of_an_older_file(head, saved):
    save_head(saved, head.state_dict(), head.prototypes(), META.model_copy(update={"key": "new"}))
    assert read_meta(saved).key == "new"
    assert [file.name for file in saved.parent.iterdir()] == [HEAD_FILE]


def test_no_head_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no trained head at .*head.safetensors; run train-head"):
        load_head(tmp_path / HEAD_FILE, CPU)


def test_another_file_is_refused(tmp_path):
    (tmp_path / HEAD_FILE).write_bytes(b"no safetensors at all")
    with pytest.raises(InputError, match="is not a head of vaflow, or is damaged"):
        load_head(tmp_path / HEAD_FILE, CPU)
    save_file({"x": torch.zeros(1)}, tmp_path / HEAD_FILE)
    with pytest.raises(InputError, match="is not a head of vaflow, or is damaged"):
        load_head(tmp_path / HEAD_FILE, CPU)


def test_a_truncated_file_is_refused(saved):
    saved.write_bytes(saved.read_bytes()[:-100])
    with pytest.raises(InputError, match="is not a head of vaflow, or is damaged"):
        load_head(saved, CPU)


def rewrite(path, change) -> None:
    fields = META.model_dump(mode="json")
    change(fields)
    save_file(load_file(path), path, metadata={META_KEY: json.dumps(fields)})


def test_another_format_is_refused(saved):
    rewrite(saved, lambda fields: fields.update(format="vaflow-head-9"))
    with pytest.raises(InputError, match=f"format 'vaflow-head-9', this vaflow reads {FORMAT!r}"):
        load_head(saved, CPU)


def test_a_head_of_a_later_kind_is_refused(saved):
    rewrite(saved, lambda fields: fields["head"].update(kind="later"))
    with pytest.raises(InputError, match=r"config that this vaflow does not know \(Input tag"):
        load_head(saved, CPU)


def test_weights_of_another_width_are_refused(saved):
    rewrite(saved, lambda fields: fields["head"].update(width=12))
    with pytest.raises(InputError, match="do not fit the head that head.safetensors describes"):
        load_head(saved, CPU)
