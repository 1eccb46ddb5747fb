"""Regions are described with the text side of any model of open_clip, by its own `encode_text`."""

import json
from dataclasses import dataclass
from typing import Any

import open_clip
import pytest
import torch
from transformers import BertConfig, PreTrainedTokenizerFast

from features.clip import Track
from features.encoders.clip import load_clip
from features.spec import FeatureSpec
from features.store.feature_store import FeatureStore
from models.regions.prompts import CoopPrompts
from models.regions.text_tower import CausalTower
from models.regions.token_layout import SeparateSequences
from models.regions.whole_tower import WholeTower, open_tower
from models.runs.folder import PROMPTS, read_json
from models.stages.score_head import score_head
from models.stages.train_head import train_head
from models.stages.zero_shot import zero_shot
from tests.helpers.small_heads import BRIEF, HEAD
from tests.helpers.small_siglip import small_siglip
from tests.helpers.synthetic import TINY_CLIP, plant

pytestmark = pytest.mark.slow

SENTENCES = ["happy", "a sad face", "a face a happy face"]


@dataclass(frozen=True)
class Side:
    model: Any
    tokenizer: Any


def siglip(folder) -> Side:
    loaded = load_clip(small_siglip(folder))
    return Side(loaded.model, loaded.tokenizer)


def two_way(folder) -> Side:
    text = {**TINY_CLIP["text_cfg"], "no_causal_mask": True}
    return Side(open_clip.CLIP(**{**TINY_CLIP, "text_cfg": text}), open_clip.SimpleTokenizer())


def coca(folder) -> Side:
    text = {**TINY_CLIP["text_cfg"], "context_length": 76, "embed_cls": True, "output_tokens": True}
    pooled = {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True}
    model = open_clip.CoCa(
        embed_dim=16,
        multimodal_cfg={**TINY_CLIP["text_cfg"], "context_length": 76, "layers": 1},
        text_cfg=text,
        vision_cfg={**TINY_CLIP["vision_cfg"], **pooled},
    )
    return Side(model, open_clip.SimpleTokenizer(context_length=76))


def bert(folder) -> Side:
    """A text side of transformers, which masks what fills a text up."""
    small_siglip(folder)  # for its tokenizer
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = BertConfig(vocab_size=len(tokenizer), intermediate_size=32, pad_token_id=0, **sizes)
    config.save_pretrained(folder / "bert")
    text = {
        "hf_model_name": str(folder / "bert"),
        "hf_tokenizer_name": str(folder / "tokenizer"),
        "hf_model_pretrained": False,
        "hf_proj_type": "linear",
        "hf_pooler_type": "mean_pooler",
    }
    model = open_clip.CustomTextCLIP(16, TINY_CLIP["vision_cfg"], text)
    return Side(
        model, open_clip.tokenizer.HFTokenizer(str(folder / "tokenizer"), context_length=20)
    )


@pytest.fixture(params=[siglip, two_way, coca, bert], scope="module")
def side(request, tmp_path_factory) -> Side:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = request.param(tmp_path_factory.mktemp(request.param.__name__))
    made.model.eval().requires_grad_(False)
    return made


def features(side: Side, texts: list[str]) -> torch.Tensor:
    with torch.no_grad():
        return side.model.encode_text(side.tokenizer(texts), normalize=False)


def test_texts_have_the_features_of_open_clip(side):
    tower = open_tower(side.model, side.tokenizer)
    assert isinstance(tower, WholeTower)
    found = tower.encode_texts(SENTENCES)
    torch.testing.assert_close(found, features(side, SENTENCES), rtol=0, atol=0)
    assert found.std(dim=0).max() > 1e-4  # they differ


def test_a_context_of_words_equals_the_text_that_begins_with_them(side):
    tower = open_tower(side.model, side.tokenizer)
    ids, _, has_start = tower.tokenise(["a happy", "sad a"])
    words = tower.embedding(ids[:, int(has_start) : int(has_start) + 2])
    layout = SeparateSequences(tower, ["face", "a sad face"], torch.tensor([0, 1]), 2)
    found = layout(words)
    expected = features(side, ["a happy face", "sad a a sad face"])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    shared = SeparateSequences(tower, ["face", "a sad face"], torch.tensor([0, 0]), 2)(words[:1])
    expected = features(side, ["a happy face", "a happy a sad face"])
    torch.testing.assert_close(shared, expected, rtol=0, atol=1e-6)


def test_the_context_is_trained_and_the_tower_is_left_as_it_was(side):
    tower = open_tower(side.model, side.tokenizer)
    layout = SeparateSequences(tower, ["face"], torch.tensor([0]), 4)
    context = torch.randn(1, 4, tower.width, requires_grad=True)
    layout(context)[0, 0].backward()
    assert context.grad is not None
    assert context.grad.any(dim=-1).all()  # every word
    assert not tower.embedding._forward_hooks


def test_texts_without_room_are_refused(side):
    tower = open_tower(side.model, side.tokenizer)
    n_tokens = side.tokenizer(["a"]).shape[1]
    with pytest.raises(ValueError, match=rf"the prompt 'a a .* fills all {n_tokens} tokens"):
        tower.encode_texts(["happy", "a " * n_tokens])
    long = "a " * (n_tokens - 5)
    with pytest.raises(ValueError, match=rf"\d+ tokens, the text tower has room for {n_tokens};"):
        SeparateSequences(tower, [long], torch.tensor([0]), 8)


def test_a_clip_still_runs_no_more_tokens_than_its_prompts_have():
    model = open_clip.CLIP(**TINY_CLIP)
    assert isinstance(open_tower(model, open_clip.SimpleTokenizer()), CausalTower)


def test_a_head_learns_the_prompts_of_a_siglip(tmp_path, without_figures):
    planted, config = plant(tmp_path), small_siglip(tmp_path)
    store, planted_spec = FeatureStore.open(planted.store), planted.visual
    spec: FeatureSpec = planted_spec.model_copy(
        update={"weights_sha256": config.spec().weights_sha256, "model": {"name": "small-siglip"}}
    )
    for clip_id in store.clip_ids(planted_spec.name):
        track = store.read(planted_spec.name, clip_id)
        wide = Track(track.values.repeat(4, axis=1), track.time_s, track.valid)
        made_by = {"encoder": config.model_dump(mode="json")}
        store.write(spec, clip_id, wide, source={}, provenance=made_by)
    inputs = {"manifest": planted.manifest, "store": planted.store, "streams": {"face": spec.name}}
    head = HEAD.model_copy(update={"prompts": CoopPrompts(n_context=4)})
    result = train_head(run=tmp_path / "run", head=head, train=BRIEF, **inputs)
    assert result.kept.ccc_valence > 0.5
    score_head(run=result.run)
    (words,) = read_json(result.run / PROMPTS, "")["contexts"]
    known = {"<pad>", "</s>", "<unk>", "a", "happy", "sad", "face"}
    assert {each["word"] for place in words["nearest"] for each in place} <= known
    zero_shot(output=tmp_path / "zero", **inputs)
    assert json.loads((tmp_path / "zero/zero_shot.json").read_text())["visual"] == spec.name
