"""The small encoders: what they learn from, that nothing rendered is in it, and the weights."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional
from transformers import ASTConfig, ASTFeatureExtractor, ASTModel

from features.encoders.ast_model import step_centres_s, step_features
from features.synthetic import dataset_writer as writer
from features.synthetic import training_data as lessons
from features.synthetic.captions import (
    FEELINGS,
    PARTS,
    TAGS,
    name_feeling,
    part_levels,
    tag_scores,
    write_caption,
)
from features.synthetic.expression import FACE_CUES, FACE_WEIGHTS
from features.synthetic.face import Look, draw_single
from features.synthetic.identity import draw_face_identity
from features.synthetic.random_streams import ENCODER_BRANCH, RENDERED_BRANCH
from features.synthetic.training import clip as training_clip
from features.synthetic.training import train as training
from features.synthetic.training.ast import AST_NAME, NETWORK
from features.synthetic.training.clip import (
    CLIP_NAME,
    SIDE_PX,
    fit_clip,
    normalised,
    text_features,
)
from features.synthetic.training.loop import batches, schedule
from features.synthetic.training.train import WEIGHTS
from features.synthetic.training_data import audio_chunk, face_chunk
from features.system.files import sha256_of

pytestmark = pytest.mark.slow

MAX_BYTES = 21e6  # of all weights in git
PROMPTS = Path(__file__).parents[3] / "configs" / "prompts"


@pytest.fixture(scope="module")
def clip() -> open_clip.CLIP:
    """The shipped CLIP through open_clip's own door."""
    if CLIP_NAME not in open_clip.list_models():
        open_clip.add_model_config(WEIGHTS / f"{CLIP_NAME}.json")
    weights = str(WEIGHTS / f"{CLIP_NAME}.safetensors")
    return open_clip.create_model(CLIP_NAME, pretrained=weights).eval()


def test_no_rendered_set_can_draw_from_the_encoders_branch(monkeypatch, tmp_path):
    assert RENDERED_BRANCH != ENCODER_BRANCH
    branches: dict[str, set[int]] = {"rendered": set(), "encoders": set()}

    def spy(who: str):
        def stream(seed: int, branch: int, *key: int) -> np.random.Generator:
            branches[who].add(branch)
            sequence = np.random.SeedSequence(seed, spawn_key=(branch, *key))
            return np.random.default_rng(sequence)

        return stream

    for module in ("drawn_video", "plan", "video_writer"):
        monkeypatch.setattr(f"features.synthetic.{module}.stream", spy("rendered"))
    monkeypatch.setattr(lessons, "stream", spy("encoders"))
    monkeypatch.setattr(lessons, "SUBJECTS_PER_CHUNK", 1)
    monkeypatch.setattr(lessons, "VOICES_PER_CHUNK", 1)
    writer.render(tmp_path / "set", clips=2, seconds=1.0, seed=3, workers=1)
    face_chunk(3, 0, 64)
    audio_chunk(3, 0, 1.0, np.array([0.5]))
    assert branches == {"rendered": {RENDERED_BRANCH}, "encoders": {ENCODER_BRANCH}}


def test_a_chunk_repeats_and_another_chunk_is_of_others(monkeypatch):
    monkeypatch.setattr(lessons, "SUBJECTS_PER_CHUNK", 1)
    one, again, other = face_chunk(1, 0, 64), face_chunk(1, 0, 64), face_chunk(1, 1, 64)
    np.testing.assert_array_equal(one.levels, again.levels)
    np.testing.assert_array_equal(one.pixels, again.pixels)
    assert (one.pixels != other.pixels).any()


def test_captions_are_words_without_numbers_and_never_a_region_text():
    rng = np.random.default_rng(0)
    texts = [write_caption(rng, random_levels(rng)) for _ in range(3000)]
    assert len(set(texts)) > 2000
    assert not any(character.isdigit() for text in texts for character in text)
    assert not any(word in text for text in texts for word in ("valence", "arousal"))
    regions = [text for file in PROMPTS.glob("*.yaml") for text in region_texts(file)]
    two_words = [text for text in regions if " " in text]
    assert not any(region in text for text in texts for region in two_words)


def random_levels(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 3, len(PARTS)).astype(np.int8)


def region_texts(file: Path) -> list[str]:
    """Every text in a prompt file that is no template."""

    def walk(node: object) -> list[str]:
        if isinstance(node, dict):
            return [text for value in node.values() for text in walk(value)]
        if isinstance(node, list):
            return [text for value in node for text in walk(value)]
        return [node] if isinstance(node, str) and "{" not in node else []

    return walk(yaml.safe_load(file.read_text()))


def test_a_caption_describes_what_shows():
    rng = np.random.default_rng(1)
    smiling = np.array([2.0 if name == "smile" else 0.0 for name in FACE_CUES])
    levels = part_levels(smiling, 0.25, 1.0)
    texts = [write_caption(rng, levels, feelings=False) for _ in range(400)]
    up, down = (
        sum(any(phrase in text for phrase in PARTS["smile"][level]) for text in texts)
        for level in (2, 0)
    )
    assert up > 150
    assert 0 < down < 0.1 * up  # some are wrong, on purpose


def test_a_feeling_is_named_by_what_shows_and_some_are_of_any_feeling():
    rng = np.random.default_rng(2)
    level = {"smile": 2, "mouth_open": 1, "mouth_width": 1}  # happy, whatever the brows do
    levels = np.array([level.get(name, 0) for name in PARTS], dtype=np.int8)
    words = [name_feeling(rng, levels) for _ in range(2000)]
    share = [[np.isin(words, group).mean() for group in row] for row in FEELINGS]
    assert share[2][1] > 0.85
    assert np.min(share) > 0


def test_a_caption_of_looks_names_no_feeling():
    rng = np.random.default_rng(3)
    words = {word for row in FEELINGS for group in row for word in group}
    texts = [write_caption(rng, random_levels(rng), feelings=False) for _ in range(500)]
    assert not any(f" {word} " in f" {text.replace(',', ' ')} " for text in texts for word in words)


def test_captions_and_loss_read_no_valence_and_arousal(monkeypatch):
    monkeypatch.setattr(lessons, "SUBJECTS_PER_CHUNK", 2)
    monkeypatch.setattr(training_clip, "CLIP_BATCH", 8)
    monkeypatch.setattr(training_clip, "CLIP_EPOCHS", 1)
    faces = face_chunk(1, 0, SIDE_PX)
    weights = []
    for felt_va in (faces.felt_va, np.full_like(faces.felt_va, np.nan)):
        torch.manual_seed(0)
        model = open_clip.CLIP(**training_clip.CLIP_MODEL)
        fit_clip(model, replace(faces, felt_va=felt_va), np.random.default_rng(0), feelings=True)
        weights.append(model.text_projection)
    torch.testing.assert_close(*weights, rtol=0, atol=0)


def test_a_cue_is_worth_a_word_beyond_half_a_standard_deviation():
    jaw_at_rest = 0.25
    for value, level in ((-0.6, 0), (-0.5, 1), (0.5, 1), (0.6, 2)):
        levels = part_levels(np.full(len(FACE_CUES), value), jaw_at_rest, 1.0)
        said_otherwise = list(PARTS).index("mouth_open")  # from the jaw, not from the cue
        assert set(np.delete(levels, said_otherwise).tolist()) == {level}
        assert levels[said_otherwise] == 1


def test_what_shows_counts_not_what_is_meant():
    levels = part_levels(np.zeros(len(FACE_CUES)), 0.9, 0.0)  # speaking, blinking
    names = list(PARTS)
    assert levels[names.index("mouth_open")] == 2
    assert levels[names.index("lids")] == 0


def test_tags_follow_the_voice():
    calm, loud = np.zeros((2, 7)), np.zeros((2, 7))
    loud[:, 1] = 2.5
    voiced = np.array([1.0, 0.0])
    quiet = tag_scores(calm, voiced, music=False)
    shout = tag_scores(loud, voiced, music=True)
    assert shout[0, TAGS.index("shouting")] > 0 > quiet[0, TAGS.index("shouting")]
    assert shout[0, TAGS.index("shouting")] > shout[1, TAGS.index("shouting")]
    assert quiet[1, TAGS.index("silence")] > 0 > quiet[0, TAGS.index("silence")]
    assert shout[0, TAGS.index("music")] > 0 > quiet[0, TAGS.index("music")]


def test_text_features_of_cut_tokens_equal_the_towers_own(clip):
    tokens = open_clip.get_tokenizer(CLIP_NAME)(
        ["someone smiling", "a rather grumpy look, pouting"]
    )
    with torch.inference_mode():
        whole = clip.encode_text(tokens, normalize=True)
        torch.testing.assert_close(text_features(clip, tokens), whole, atol=1e-5, rtol=1e-4)


def test_step_features_are_averaged_over_frequency_not_time():
    config = ASTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=1, intermediate_size=16,
        max_length=64, num_mel_bins=48,
    )  # fmt: skip
    torch.manual_seed(0)
    model = ASTModel(config).eval()
    inputs = torch.randn(1, 64, 48)
    with torch.inference_mode():
        found = step_features(model, inputs)
        tokens = model(inputs).last_hidden_state[0, 2:]
    # 4 bands of (48 - 16) // 10 + 1, 5 steps of (64 - 16) // 10 + 1; token f * 5 + t
    by_hand = torch.stack([tokens[t::5].mean(0) for t in range(5)])
    torch.testing.assert_close(found[0], by_hand)


def test_steps_are_centred_on_their_patches():
    centres_s = step_centres_s(NETWORK)
    # frames 0..15 of 25 ms every 10 ms: the middle of the first patch is at 75 + 12.5 ms
    assert centres_s[0] == pytest.approx(0.0875)
    assert np.diff(centres_s) == pytest.approx(0.1)
    assert len(centres_s) == 31


def test_batches_visit_rows_once_and_the_rate_rises_then_falls():
    rows = np.concatenate(list(batches(np.random.default_rng(0), 100, 30)))
    assert len(rows) == len(set(rows.tolist())) == 90
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    rates = schedule(optimiser, 100)
    seen = []
    for _ in range(100):
        seen.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        rates.step()
    peak = int(np.argmax(seen))
    assert 5 <= peak <= 10
    assert seen[0] < 0.2
    assert seen[-1] < 0.01


def test_all_weights_together_are_small_and_in_half_precision():
    files = [path for path in WEIGHTS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MAX_BYTES
    weights = [path for path in files if path.suffix == ".safetensors"]
    assert len(weights) == 3
    for path in weights:
        kinds = {tensor.dtype for tensor in load_file(path).values() if tensor.is_floating_point()}
        assert kinds == {torch.float16}, path


def test_the_card_names_the_weights_that_lie_beside_it():
    card = (WEIGHTS / "README.md").read_text()
    for name in training.PARTS:
        note = json.loads((WEIGHTS / f"{name}.measured.json").read_text())
        assert sha256_of(WEIGHTS / note["file"]) == note["sha256"]
        assert note["sha256"] in card
        assert all(f"{value:.3f}" in card for value in note["measured"].values())


def test_the_shipped_ast_loads_through_its_own_classes():
    model = ASTModel.from_pretrained(WEIGHTS / AST_NAME, local_files_only=True)
    extractor = ASTFeatureExtractor.from_pretrained(WEIGHTS / AST_NAME, local_files_only=True)
    assert model.config.max_length == extractor.max_length
    samples = sound_of_noise()
    inputs = extractor(samples, sampling_rate=16_000, return_tensors="pt")["input_values"]
    assert step_features(model.float().eval(), inputs).shape == (1, 31, model.config.hidden_size)
    assert abs(float(inputs.mean())) < 1.5  # the extractor's statistics are those of such sound


def sound_of_noise() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.02, 51_200).astype(np.float32)


def test_the_text_tower_knows_what_words_look_like(clip):
    rng = np.random.default_rng(77)  # no branch of any seed
    weights = np.array(list(FACE_WEIGHTS.values()))
    corners = {"dejected": (-1.8, -1.5), "outraged": (-1.8, 1.8), "serene": (1.8, -1.5),
               "thrilled": (1.8, 1.8)}  # fmt: skip
    pictures, truth = [], []
    for k, place in enumerate(corners.values()):
        for _ in range(8):
            cues = np.clip(1.2 * weights @ np.array(place), -2.4, 2.4)
            face = draw_face_identity(rng)
            pictures.append(draw_single(face, Look(cues), (0.0, 0.0, 0.0), (120, 130, 140)))
            truth.append(k)
    small = np.stack([resized(picture) for picture in pictures])
    texts = [f"a person who looks {word}" for word in corners]
    with torch.inference_mode():
        image = functional.normalize(clip.encode_image(normalised(small)), dim=-1)
        text = text_features(clip, open_clip.get_tokenizer(CLIP_NAME)(texts))
    found = (image @ text.T).argmax(1).numpy()
    assert (found == np.array(truth)).mean() > 0.5  # chance is .25; captions go by the mouth alone


def resized(picture: np.ndarray) -> np.ndarray:
    """As CLIP's preprocessing does it."""
    return np.asarray(Image.fromarray(picture).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC))
