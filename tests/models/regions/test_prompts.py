import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from pydantic import TypeAdapter, ValidationError
from torch import nn

from features.errors import InputError
from models.regions.nearest_words import prompt_words, read_prompt_words
from models.regions.prompts import (
    AnyPrompts,
    CoopCscPrompts,
    CoopPrompts,
    FixedPrompts,
)
from models.regions.prototypes import mean_by_region, membership
from models.regions.text_tower import TextTower
from models.regions.texts import RegionTexts
from models.regions.texts_file import FOLDER, read_texts
from models.regions.whole_tower import open_tower
from models.runs.folder import write_json
from tests.helpers.synthetic import TINY_CLIP, tiny_model

pytestmark = pytest.mark.slow

SENTENCES = ["happy", "a face that looks weary and sad", "startled, wide awake and rather loud!"]


@pytest.fixture(scope="module")
def model() -> open_clip.CLIP:
    return tiny_model()


@pytest.fixture(scope="module")
def tower(model) -> TextTower:
    return open_tower(model, open_clip.SimpleTokenizer())


@pytest.fixture(scope="module")
def texts() -> RegionTexts:
    return read_texts("nine_regions")


def test_the_cut_tower_equals_encode_text(model, tower):
    tokens = open_clip.SimpleTokenizer()(SENTENCES)
    assert tokens.shape == (3, 77)
    lengths = []
    original = model.transformer.forward

    def watched(x, **kwargs):
        lengths.append(x.shape[1])
        return original(x, **kwargs)

    model.transformer.forward = watched
    try:
        found, expected = tower.encode_texts(SENTENCES), model.encode_text(tokens)
    finally:
        del model.transformer.forward
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert lengths[1] == 77
    assert lengths[0] < 15


def test_one_token_less_would_not_do(tower):
    # the cut is at the last end-of-text token; before it, the longest sentence is another
    tokens, ends = tower.tokenise(SENTENCES)
    n = tower.length_for(ends)
    assert n == max(len(open_clip.SimpleTokenizer().encode(s)) for s in SENTENCES) + 2
    changed = tokens.clone()
    changed[:, n:] = 5
    torch.testing.assert_close(
        tower.encode(tower.token_vectors(changed), ends),
        tower.encode(tower.token_vectors(tokens), ends),
    )


def test_a_tower_without_a_causal_mask_is_not_cut():
    text = {**TINY_CLIP["text_cfg"], "no_causal_mask": True}
    two_way = open_clip.CLIP(**{**TINY_CLIP, "text_cfg": text}).eval().requires_grad_(False)
    tower = open_tower(two_way, open_clip.SimpleTokenizer())
    expected = two_way.encode_text(open_clip.SimpleTokenizer()(SENTENCES))
    torch.testing.assert_close(tower.encode_texts(SENTENCES), expected, rtol=0, atol=1e-5)


def test_a_custom_text_clip_has_a_tower_too():
    custom = open_clip.CustomTextCLIP(**TINY_CLIP).eval().requires_grad_(False)
    tower = open_tower(custom, open_clip.SimpleTokenizer())
    expected = custom.encode_text(open_clip.SimpleTokenizer()(SENTENCES))
    torch.testing.assert_close(tower.encode_texts(SENTENCES), expected, rtol=0, atol=1e-5)


def test_a_model_without_text_is_refused():
    with pytest.raises(ValueError, match="Linear has no text side that embeds tokens .* to null"):
        open_tower(nn.Linear(2, 2), open_clip.SimpleTokenizer())


def test_a_prompt_that_may_have_been_cut_off_is_refused(tower):
    with pytest.raises(ValueError, match=r"the prompt 'so so .* fills all 77 tokens"):
        tower.encode_texts(["so " * 90])


def test_fixed_prototypes_by_the_slow_way(tower, model, texts):
    found = FixedPrompts().build(tower, texts)()
    tokenizer = open_clip.SimpleTokenizer()
    for k, descriptions in enumerate(texts.by_region):
        units = [
            F.normalize(model.encode_text(tokenizer([template.format(text)]))[0], dim=0)
            for text in descriptions
            for template in texts.templates
        ]
        mean = torch.stack(units).mean(dim=0)
        torch.testing.assert_close(found[k], mean / mean.norm(), rtol=0, atol=1e-5)


def test_regions_with_unequal_numbers_of_texts():
    features = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 5.0]])
    # region 0: unit mean of (1, 0) and (0, 1); region 1: (0, 1)
    expected = torch.tensor([[0.5**0.5, 0.5**0.5], [0.0, 1.0]])
    torch.testing.assert_close(mean_by_region(features, membership([2, 1])), expected)


@pytest.mark.parametrize("n_context", [4, 8, 16])
@pytest.mark.parametrize("config_type", [CoopPrompts, CoopCscPrompts])
def test_coop_equals_a_run_of_all_77_tokens(tower, model, texts, config_type, n_context):
    torch.manual_seed(0)
    bank = config_type(n_context=n_context, init_std=0.5).build(tower, texts)
    tokens = open_clip.SimpleTokenizer()([t for region in texts.by_region for t in region])
    embedded = model.token_embedding(tokens)
    region = [k for k, descriptions in enumerate(texts.by_region) for _ in descriptions]
    context = bank.context[region if config_type is CoopCscPrompts else [0] * len(region)]
    whole = torch.cat([embedded[:, :1], context, embedded[:, 1 : 77 - n_context]], dim=1)
    out = model.transformer(whole + model.positional_embedding, attn_mask=model.attn_mask)
    ends = tokens.argmax(dim=-1) + n_context
    features = model.ln_final(out)[torch.arange(len(tokens)), ends] @ model.text_projection
    expected = mean_by_region(features, membership([len(r) for r in texts.by_region]))
    torch.testing.assert_close(bank(), expected, rtol=0, atol=1e-5)


def run_lengths(model, of) -> list[tuple[int, int]]:
    """Sequences and tokens of each run of the text transformer while `of` is called."""
    seen = []
    hook = model.transformer.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape))
    of()
    hook.remove()
    return [tuple(shape[:2]) for shape in seen]


@pytest.mark.parametrize(("config", "n"), [(CoopPrompts(), 1), (CoopCscPrompts(), 9)])
def test_what_prompts_share_is_run_once(tower, model, texts, config, n):
    words = [text for region in texts.by_region for text in region]
    n_own = sum(len(open_clip.SimpleTokenizer().encode(text)) + 1 for text in words)  # with the end
    bank = config.build(tower, texts)
    assert run_lengths(model, bank) == [(1, 1 + 8 * n + n_own)]


@pytest.mark.parametrize("config", [CoopPrompts(init_std=0.5), CoopCscPrompts(init_std=0.5)])
def test_where_tokens_see_what_follows_each_prompt_stands_alone(texts, config):
    torch.manual_seed(0)
    text = {**TINY_CLIP["text_cfg"], "no_causal_mask": True}
    two_way = open_clip.CLIP(**{**TINY_CLIP, "text_cfg": text}).eval().requires_grad_(False)
    bank = config.build(open_tower(two_way, open_clip.SimpleTokenizer()), texts)
    tokens = open_clip.SimpleTokenizer()([t for region in texts.by_region for t in region])
    embedded = two_way.token_embedding(tokens)
    region = [k for k, descriptions in enumerate(texts.by_region) for _ in descriptions]
    context = bank.context[region if config.kind == "coop_csc" else [0] * len(region)]
    whole = torch.cat([embedded[:, :1], context, embedded[:, 1:69]], dim=1)
    out = two_way.transformer(whole + two_way.positional_embedding)
    ends = tokens.argmax(dim=-1) + 8
    features = two_way.ln_final(out)[torch.arange(len(tokens)), ends] @ two_way.text_projection
    expected = mean_by_region(features, membership([len(r) for r in texts.by_region]))
    torch.testing.assert_close(bank(), expected, rtol=0, atol=1e-5)
    assert run_lengths(two_way, bank) == [(27, 77)]


@pytest.mark.parametrize(("config", "n"), [(CoopPrompts(), 1), (CoopCscPrompts(), 9)])
def test_only_the_context_is_learned_and_saved(tower, texts, model, config, n):
    torch.manual_seed(0)
    bank = config.build(tower, texts)
    assert [name for name, _ in bank.named_parameters()] == ["context"]
    assert list(bank.state_dict()) == ["context"]
    assert bank.context.shape == (n, 8, 16)
    assert bank.context.std().item() == pytest.approx(0.02, rel=0.2)
    bank()[0, 0].backward()
    read = bank.context.grad.any(dim=-1)  # (C, n)
    assert read[0].all()  # every word of it
    assert not read[1:].any()  # and of no other region's
    assert all(parameter.grad is None for parameter in model.parameters())


def test_prototypes_are_unit_and_differ(tower, texts):
    for config in (FixedPrompts(), CoopPrompts(), CoopCscPrompts()):
        prototypes = config.build(tower, texts)().detach()
        assert prototypes.shape == (9, 16)
        torch.testing.assert_close(prototypes.norm(dim=-1), torch.ones(9))
        assert torch.pdist(prototypes).min() > 1e-4


def test_a_description_too_long_for_the_context_is_refused(tower, texts):
    regions = {**texts.regions, "low": {**texts.regions["low"], "low": ("sad " * 70,)}}
    long = RegionTexts(templates=texts.templates, regions=regions)
    with pytest.raises(ValueError, match="8 context words and the longest description take 80"):
        CoopPrompts(n_context=8).build(tower, long)


def test_only_these_numbers_of_context_words():
    with pytest.raises(ValidationError, match="4, 8 or 16"):
        CoopPrompts(n_context=5)
    with pytest.raises(ValidationError, match="'fixed', 'coop'"):
        TypeAdapter(AnyPrompts).validate_python({"kind": "copo"})


def test_every_file_of_texts_can_be_read():
    files = sorted(FOLDER.glob("*.yaml"))
    assert files
    for file in files:
        read = read_texts(file.stem)
        assert len(read.by_region) == read.grid.n_regions
        assert read == read_texts(str(file))


def test_the_order_is_that_of_the_regions(texts):
    assert texts.by_region[2] == texts.regions["low"]["high"]
    assert texts.by_region[3] == texts.regions["mid"]["low"]
    assert "angry and tense" in texts.by_region[2]
    words = [text for region in texts.by_region for text in region]
    assert len(set(words)) == len(words)
    assert np.all([template.count("{}") == 1 for template in texts.templates])


def test_texts_that_are_not_there_are_refused_with_those_that_are(tmp_path):
    with pytest.raises(
        InputError, match=r"no region texts 'ten_regions'.* give one of four_quadrants, nine_reg"
    ):
        read_texts("ten_regions")
    with pytest.raises(InputError, match="or the path of a YAML file"):
        read_texts(str(tmp_path / "mine.yaml"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("templates: [", "is not YAML"),
        (
            "templates: ['{}']\nregions: {low: {low: [sad]}}",
            "no description of low valence with mid",
        ),
        ("templates: ['a face']\nregions: {}", r"templates\.0: String should match"),
        (
            "templates: ['{}']\nregions: {lo: {low: [sad]}}",
            "'lo' is no level of the grid; its levels are low, mid, high",
        ),
        (
            "templates: ['{}']\ngrid: {levels: [a, b]}\nregions: {}",
            "grid: Value error, 2 levels and 3 centres",
        ),
        (
            "templates: ['{}']\nregion: {}",
            r"region.*configs/prompts/nine_regions.yaml shows the form",
        ),
        ("just words", "the file: Input should be"),
    ],
)
def test_texts_that_break_a_rule_are_refused(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_texts(str(path))


def test_the_nearest_words_are_those_whose_embeddings_are_near(tower, model, texts):
    bank = CoopPrompts(n_context=4).build(tower, texts)
    tokenizer = open_clip.SimpleTokenizer()
    said = ["happy", "calm", "loud", "grey"]
    (happy, calm, loud, grey) = (tokenizer.encode(word)[0] for word in said)
    with torch.no_grad():
        table = model.token_embedding.weight
        bank.context.copy_(table[[happy, calm, loud, grey]] + 1e-4)
    (context,) = bank.nearest_words(3)
    assert [place[0][0] for place in context] == said
    distances = torch.linalg.vector_norm(table - bank.context[0, 1], dim=-1).sort()
    for (word, distance), expected, token in zip(
        context[1], distances.values, distances.indices, strict=False
    ):
        assert distance == pytest.approx(expected.item(), abs=1e-3)
        assert word == tokenizer.decode([token.item()]).strip()


@pytest.mark.parametrize("config", [CoopPrompts(n_context=4), CoopCscPrompts(n_context=4)])
def test_the_account_names_regions_where_contexts_are_their_own(tower, texts, config, tmp_path):
    head = nn.Module()
    head.prompts = config.build(tower, texts)
    words = prompt_words(head, texts.grid)
    regions = [context.region for context in words.contexts]
    assert (
        regions[:2]
        == (
            ["all"]
            if config.kind == "coop"
            else ["low valence, low arousal", "low valence, mid arousal"]
        )[: len(regions)]
    )
    assert len(regions) == (1 if config.kind == "coop" else 9)
    assert all(len(context.nearest) == 4 for context in words.contexts)
    told, exact = words.contexts[0].nearest[0][0], head.prompts.nearest_words(1)[0][0][0]
    assert (told.word, told.distance) == (exact[0], pytest.approx(exact[1], abs=1e-5))
    write_json(tmp_path / "prompts.json", words.model_dump(mode="json"))
    assert read_prompt_words(tmp_path / "prompts.json") == words
    (tmp_path / "prompts.json").write_text("{}")
    with pytest.raises(InputError, match=r"prompts.json is damaged .* delete it, or train again"):
        read_prompt_words(tmp_path / "prompts.json")


def test_fixed_prompts_learned_no_words(tower, texts, tmp_path):
    head = nn.Module()
    head.prompts = FixedPrompts().build(tower, texts)
    assert prompt_words(head, texts.grid) is None
    assert read_prompt_words(tmp_path / "prompts.json") is None
