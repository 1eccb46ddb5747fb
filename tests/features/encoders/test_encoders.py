"""Every row equals that of the reference implementations, which encode one item at a time."""

import hashlib
import json
import shutil
from functools import cache
from pathlib import Path

import av
import numpy as np
import open_clip
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from open_clip.model import CLIP
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import ASTFeatureExtractor, ASTModel

from features.clip import Source, Track
from features.encoders.ast import AstConfig, WindowLayout
from features.encoders.ast_windows import AudioWindows
from features.encoders.base import to_stored
from features.encoders.clip import ClipConfig, load_clip
from features.encoders.clip_model import SHIPPED
from features.errors import InputError, MediaError, WeightsError
from features.media.sampling import Sampling
from tests.helpers.small_media import RATE_HZ, TINY_AST, TINY_CLIP, tone
from tests.helpers.whole_media import read_audio, read_frame_times

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
ALIKE = 0.99999  # least cosine of a row to the reference's
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture
def encoded(decoder):
    """Encodes one clip."""

    def encode(encoder, source: Source) -> tuple[Track, str | None]:
        *items, layout = encoder.read(source, decoder)
        return encoder.assemble([encoder.encode(item) for item in items], layout)

    return encode


def source(**parts) -> Source:
    empty = {"clip_id": "a", "video": None, "frames": None, "audio": None, "fps": None}
    return Source(**{**empty, **parts})


def least_cosine(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(
        torch.cosine_similarity(
            torch.from_numpy(np.asarray(found, np.float64)),
            torch.from_numpy(np.asarray(wanted, np.float64)),
        ).min()
    )


def seeded_vit(folder: Path) -> ClipConfig:
    """A CLIP whose pictures go through the first two of the twelve layers of a ViT-B/32."""
    config = open_clip.get_model_config("ViT-B-32")
    config["vision_cfg"]["layers"] = 2
    config["text_cfg"] = TINY_CLIP["text_cfg"]
    torch.manual_seed(1)
    save_file(CLIP(**config).state_dict(), folder / "seeded.safetensors")
    (folder / "seeded.json").write_text(json.dumps(config))
    return ClipConfig(
        model=str(folder / "seeded.json"), pretrained=str(folder / "seeded.safetensors")
    )


@pytest.fixture(scope="module", params=["shipped", "ViT"])
def clip_config(request, tmp_path_factory) -> ClipConfig:
    if request.param == "shipped":
        return ClipConfig(model="vaflow-rn-small", pretrained="rendered")
    return seeded_vit(tmp_path_factory.mktemp("vit"))


loaded_once = cache(load_clip)


def reference_rows(config: ClipConfig, folder: Path, **preprocessing) -> np.ndarray:
    """open_clip's own preprocess and encode_image, one PIL image at a time."""
    loaded = loaded_once(config)
    settings = {**loaded.model.visual.preprocess_cfg, **preprocessing}
    preprocess = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(**settings), is_train=False
    )
    with torch.inference_mode():
        rows = [
            loaded.model.encode_image(preprocess(Image.open(path))[None])
            for path in sorted(folder.glob("*.jpg"))
        ]
    return torch.cat(rows).numpy()


def test_clip_rows_equal_those_of_open_clip(encoded, clip_config, make_crops, make_video):
    folder = make_crops(list(range(1, 9)))
    video = make_video(time_s=np.arange(8) / 25)
    track, _ = encoded(clip_config.build(CPU), source(frames=folder, video=video))

    assert least_cosine(track.values, reference_rows(clip_config, folder)) >= ALIKE
    # the same assertion fails for likely mistakes
    imagenet = reference_rows(clip_config, folder, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    assert least_cosine(track.values, imagenet) < ALIKE
    bilinear = reference_rows(clip_config, folder, interpolation="bilinear")
    assert least_cosine(track.values, bilinear) < ALIKE
    shifted = np.roll(reference_rows(clip_config, folder), 1, axis=0)
    assert least_cosine(track.values, shifted) < ALIKE


def test_rows_of_whole_frames_equal_those_of_open_clip(encoded, tiny_clip, make_video):
    config = ClipConfig(**tiny_clip)
    video = make_video()
    track, note = encoded(config.build(CPU), source(video=video))
    loaded = load_clip(config)
    preprocess = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(**loaded.model.visual.preprocess_cfg), is_train=False
    )
    with av.open(str(video)) as container, torch.inference_mode():
        rows = [
            loaded.model.encode_image(preprocess(frame.to_image())[None])
            for frame in container.decode(video=0)
        ]
    assert least_cosine(track.values, torch.cat(rows).numpy()) >= ALIKE
    assert track.valid.all()
    assert note is None


def test_a_frame_without_a_crop_is_a_row_that_is_not_valid(
    encoded, tiny_clip, make_crops, make_video
):
    folder, video = make_crops([1, 2, 5, 7]), make_video(time_s=np.arange(6) / 25)
    track, _ = encoded(ClipConfig(**tiny_clip).build(CPU), source(frames=folder, video=video))
    # six frames, and crop 7: one row beyond the last frame, the median step later
    np.testing.assert_array_equal(track.valid, [1, 1, 0, 0, 1, 0, 1])
    np.testing.assert_allclose(track.time_s, np.arange(7) / 25, atol=1e-4)
    assert not track.values[~track.valid].any()


def test_rows_have_the_presentation_times_of_their_frames_exactly(encoded, tiny_clip, make_video):
    steps = np.random.default_rng(3).integers(100, 900, 40)
    uneven_s = (np.cumsum(steps) - steps[0]) / 10_000
    video = make_video(time_s=uneven_s)
    track, _ = encoded(ClipConfig(**tiny_clip).build(CPU), source(video=video))
    np.testing.assert_array_equal(track.time_s, uneven_s)


def test_crops_of_several_sizes_are_encoded_as_one_by_one(encoded, tiny_clip, make_crops):
    folder, other = make_crops([1, 3]), make_crops([2], "other", side_px=80)
    (other / "00002.jpg").rename(folder / "00002.jpg")
    config = ClipConfig(**tiny_clip)
    track, note = encoded(config.build(CPU), source(frames=folder, fps=10.0))
    assert least_cosine(track.values, reference_rows(config, folder)) >= ALIKE
    np.testing.assert_array_equal(track.time_s, [0, 0.1, 0.2])
    assert note == "no video: constant rate of 10 frames a second"


def test_bfloat16_is_another_feature_set_with_nearly_the_same_rows(encoded, tiny_clip, make_video):
    video = make_video(time_s=np.arange(4) / 25)
    exact = ClipConfig(**tiny_clip)
    rough = ClipConfig(**tiny_clip, precision="bfloat16")
    tracks = [encoded(c.build(CPU), source(video=video))[0].values for c in (exact, rough)]
    assert 0.999 < least_cosine(*tracks) < 1
    assert exact.spec().name != rough.spec().name


@pytest.fixture(scope="module", params=["shipped", "tiny"])
def ast_folder(request, tiny_ast) -> str:
    return str(SHIPPED / "vaflow-ast-small") if request.param == "shipped" else tiny_ast


def reference_windows(folder: str, samples: np.ndarray, hop: int, layout=None) -> Tensor:
    """transformers' extractor and model, one window of samples at a time (N, steps, D)."""
    extractor = ASTFeatureExtractor.from_pretrained(folder)
    model = ASTModel.from_pretrained(folder, dtype=torch.float32).eval()
    window = extractor.max_length * 160
    n_steps = 1 + (extractor.max_length - 16) // 10
    rows = []
    for at in range(0, max(1, len(samples) - 400), hop):
        inputs = extractor(samples[at : at + window], sampling_rate=16_000, return_tensors="pt")
        with torch.inference_mode():
            tokens = model(**inputs).last_hidden_state[0, 2:]
        shape = (12, n_steps) if layout is None else (n_steps, 12)
        rows.append(tokens.unflatten(0, shape).mean(0 if layout is None else 1))
    return torch.stack(rows)


def test_ast_rows_equal_those_of_transformers(encoded, ast_folder, make_video):
    video = make_video(time_s=np.arange(175) / 25, sound=tone(7))
    encoder = AstConfig(model=ast_folder, hop_s=0.64).build(CPU)
    track, note = encoded(encoder, source(video=video))
    sound = read_audio(video, 16_000)
    assert sound is not None
    wanted = reference_windows(ast_folder, sound.samples, hop=round(0.64 * 16_000))

    starts_s = np.arange(len(wanted)) * 0.64
    centres_s = starts_s[:, None] + 0.0875 + 0.1 * np.arange(wanted.shape[1])
    window, step = np.nonzero(np.abs(track.time_s[:, None, None] - centres_s).min(axis=0) < 1e-6)
    row_of = np.abs(track.time_s[:, None] - centres_s[window, step]).argmin(axis=0)
    assert sorted(set(row_of.tolist())) == list(range(len(track.time_s)))  # every row is found
    # more than one window can have a step at the same time: the row is one of them
    best = np.full(len(track.time_s), -1.0)
    for row, w, s in zip(row_of, window, step, strict=True):
        best[row] = max(best[row], least_cosine(track.values[row][None], wanted[w, s][None]))
    assert best.min() >= ALIKE
    assert note is None
    assert track.valid.all()


def test_frequency_is_the_outer_axis_of_the_tokens_of_an_ast(encoded, ast_folder, make_video):
    extractor = ASTFeatureExtractor.from_pretrained(ast_folder)
    window_s = extractor.max_length / 100
    seconds = 2 * window_s + 1
    video = make_video(time_s=np.arange(int(seconds * 25)) / 25, sound=tone(seconds))
    track, _ = encoded(AstConfig(model=ast_folder, hop_s=window_s).build(CPU), source(video=video))
    sound = read_audio(video, 16_000)
    assert sound is not None
    hop = extractor.max_length * 160
    n_steps = 1 + (extractor.max_length - 16) // 10

    def rows(layout=None) -> np.ndarray:
        return reference_windows(ast_folder, sound.samples, hop, layout).flatten(0, 1).numpy()

    wanted = rows()[: n_steps * 2]  # the windows that lie in the sound as a whole
    assert least_cosine(track.values[: len(wanted)], wanted) >= ALIKE
    wrong = rows("time outside")[: n_steps * 2]  # the 101x12 reading of the tokens
    assert least_cosine(track.values[: len(wanted)], wrong) < ALIKE
    shifted = np.roll(wanted, 1, axis=0)
    assert least_cosine(track.values[: len(wanted)], shifted) < ALIKE


def whole_spectrogram(windows: AudioWindows, samples: np.ndarray) -> torch.Tensor:
    empty = torch.zeros(0, windows.extractor.num_mel_bins)
    return torch.cat([empty, *windows.spectrogram([samples])])


def test_each_window_equals_the_extractors_of_the_same_samples(ast_folder, make_video):
    video = make_video(time_s=np.arange(175) / 25, sound=tone(7))
    encoder = AstConfig(model=ast_folder, hop_s=0.64).build(CPU)
    sound = read_audio(video, 16_000)
    assert sound is not None
    extractor = ASTFeatureExtractor.from_pretrained(ast_folder)
    spectrogram = whole_spectrogram(encoder.windows, sound.samples)
    for first in (0, 64, 128):
        stretch = sound.samples[first * 160 :][: extractor.max_length * 160]
        wanted = extractor(stretch, sampling_rate=16_000, return_tensors="pt").input_values[0]
        torch.testing.assert_close(encoder.windows.window(spectrogram, first), wanted)


@pytest.mark.parametrize("keep", ["centre", "last"])
def test_overlapping_windows_provide_each_step_once(encoded, tiny_ast, make_video, keep):
    video = make_video(time_s=np.arange(125) / 25, sound=tone(5))
    config = AstConfig(model=tiny_ast, hop_s=0.4, keep=keep)
    encoder = config.build(CPU)
    track, _ = encoded(encoder, source(video=video))
    np.testing.assert_allclose(np.diff(track.time_s), 0.1, atol=0.051)
    assert track.time_s[0] == pytest.approx(0.0875)
    assert 4.8 < track.time_s[-1] < 5.05  # to the end of the sound, and not into the padding


def test_a_causal_track_does_not_depend_on_audio_later_than_its_hop(encoded, tiny_ast, make_video):
    hop_s = 0.4
    sound = tone(5)
    changed = sound.copy()
    changed[int(3 * RATE_HZ) :] = tone(5, seed=9)[int(3 * RATE_HZ) :]
    config = AstConfig(model=tiny_ast, hop_s=hop_s, keep="last")
    encoder = config.build(CPU)
    times = np.arange(125) / 25
    a, _ = encoded(encoder, source(video=make_video("a.mp4", time_s=times, sound=sound)))
    b, _ = encoded(encoder, source(video=make_video("b.mp4", time_s=times, sound=changed)))
    window_s = TINY_AST["max_length"] / 100
    # after the first window, steps more than a hop and a frame ahead of the change are the same
    early = (a.time_s > window_s) & (a.time_s < 3 - hop_s - 0.15)
    assert early.sum() > 5
    assert least_cosine(a.values[early], b.values[early]) > 0.9999  # AAC smears a little
    late = a.time_s > 3.1
    assert least_cosine(a.values[late], b.values[late]) < 0.9999


def test_a_click_has_the_time_that_it_has_in_the_audio(encoded, tiny_ast, make_video):
    sound = np.zeros(3 * RATE_HZ, np.float32)
    sound[int(1.7 * RATE_HZ) : int(1.7 * RATE_HZ) + 200] = 0.9
    timed = {"time_s": np.arange(100) / 25, "sound_starts_s": 0.5}
    video = make_video(sound=sound, **timed)
    silent = make_video("silent.mp4", sound=np.zeros_like(sound), **timed)
    encoder = AstConfig(model=tiny_ast, hop_s=0.16).build(CPU)
    track, _ = encoded(encoder, source(video=video))
    quiet, _ = encoded(encoder, source(video=silent))
    found = read_audio(video, 16_000)
    assert found is not None
    click_s = found.start_s + np.abs(found.samples).argmax() / 16_000
    assert click_s == pytest.approx(2.2, abs=0.01)
    change = np.linalg.norm(track.values.astype(float) - quiet.values.astype(float), axis=1)
    assert track.time_s[change.argmax()] == pytest.approx(2.2, abs=0.1)


def test_a_clip_without_audio_is_an_empty_track_with_a_note(encoded, tiny_ast, make_video):
    track, note = encoded(
        AstConfig(model=tiny_ast, hop_s=0.64).build(CPU), source(video=make_video())
    )
    assert track.values.shape == (0, TINY_AST["hidden_size"])
    assert note == "the clip has no sound"


def test_audio_shorter_than_one_spectrogram_frame_is_an_empty_track(encoded, tiny_ast, tmp_path):
    encoder = AstConfig(model=tiny_ast, hop_s=0.64).build(CPU)
    lengths = {}
    for n_samples in (399, 400):
        path = tmp_path / f"{n_samples}.wav"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
            block = av.AudioFrame.from_ndarray(np.ones((1, n_samples), np.int16), "s16", "mono")
            block.rate = 16_000
            container.mux(stream.encode(block))
            container.mux(stream.encode(None))
        track, note = encoded(encoder, source(audio=path))
        lengths[n_samples] = (len(track.values), note)
    assert lengths == {399: (0, "the sound is shorter than 25 ms"), 400: (1, None)}


def test_a_long_spectrogram_is_the_same_in_blocks(tiny_ast, monkeypatch):
    from features.encoders import ast_windows

    windows = AstConfig(model=tiny_ast, hop_s=0.64).build(CPU).windows
    samples = tone(3)[::3].copy()
    whole = whole_spectrogram(windows, samples)
    monkeypatch.setattr(ast_windows, "FBANK_BLOCK", 77)
    torch.testing.assert_close(whole_spectrogram(windows, samples), whole, rtol=0, atol=0)


@given(
    n_samples=st.integers(0, 120_000),
    hop=st.integers(10, 128),
    cuts=st.lists(st.integers(0, 120_000), max_size=6),
    block=st.sampled_from([77, 150, 6000]),
)
@settings(max_examples=25)
def test_windows_of_blocks_equal_those_of_the_whole_audio(ast_of_hop, n_samples, hop, cuts, block):
    from features.encoders import ast_windows

    windows = ast_of_hop(hop, "centre").windows
    samples = tone(3)[:n_samples].copy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ast_windows, "FBANK_BLOCK", block)
        whole = whole_spectrogram(windows, samples)
        wanted = [windows.window(whole, start) for start in windows.starts(len(whole))]
        memory = np.zeros(120_000, np.float32)  # which each block overwrites, as in a decoder
        found = list(windows.from_blocks(overwriting(memory, np.split(samples, sorted(cuts)))))
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def overwriting(memory: np.ndarray, blocks):
    for block in blocks:
        memory[: len(block)] = block
        yield memory[: len(block)]


def test_frames_that_are_not_sampled_are_rows_that_are_not_valid(
    encoded, tiny_clip, make_video, make_crops
):
    video = make_video(time_s=np.arange(40) / 20)
    crops = make_crops([1, 2, 5, 9, 10])
    for clip in (source(video=video), source(video=video, frames=crops)):
        all_rows, _ = encoded(ClipConfig(**tiny_clip).build(CPU), clip)
        for sampling, step in ((Sampling(every=4), 4), (Sampling(fps=5), 4), (Sampling(fps=2), 10)):
            few, _ = encoded(ClipConfig(**tiny_clip, sampling=sampling).build(CPU), clip)
            np.testing.assert_array_equal(few.time_s, all_rows.time_s)
            is_sampled = np.arange(40) % step == 0
            np.testing.assert_array_equal(few.valid, all_rows.valid & is_sampled)
            assert few.valid.any()
            np.testing.assert_allclose(few.values[few.valid], all_rows.values[few.valid], atol=2e-3)


def test_a_sampling_is_part_of_the_spec_and_its_default_is_not(tiny_clip):
    every = ClipConfig(**tiny_clip).spec()
    assert every.sampling == {"rows": "every frame", "time": "presentation"}
    assert ClipConfig(**tiny_clip, sampling=Sampling(every=1)).spec() == every
    names = {
        ClipConfig(**tiny_clip, sampling=sampling).spec().name
        for sampling in (Sampling(), Sampling(every=2), Sampling(fps=2), Sampling(fps=2.5))
    }
    assert len(names) == 4


def test_float16_is_another_feature_set_near_float32(encoded, tiny_clip, make_video):
    clip = source(video=make_video())
    exact, half = (ClipConfig(**tiny_clip, precision=p).build(CPU) for p in ("float32", "float16"))
    assert exact.spec.name != half.spec.name
    assert least_cosine(encoded(half, clip)[0].values, encoded(exact, clip)[0].values) > 0.9999


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        (ClipConfig(model="ViT-B-61"), InputError, "knows no such model; the nearest are ViT-B-16"),
        (ClipConfig(model="ViT-B-16"), InputError, "use 'ViT-B-16-quickgelu'"),
        (ClipConfig(model="none.json"), InputError, "there is no such file"),
        (ClipConfig(pretrained="opnai"), InputError, "neither a file nor a tag"),
        (ClipConfig(), WeightsError, "not on this machine .* point at a local copy"),
        (AstConfig(model="nobody/no-ast"), WeightsError, "point at a local copy with model=FOLDER"),
    ],
)
def test_an_encoder_that_is_not_found_is_named(config, error, message):
    with pytest.raises(error, match=message):
        config.spec()


def test_a_hop_that_leaves_gaps_or_is_off_the_grid_is_refused(tiny_ast):
    for hop_s in (0.005, 0.09, 0.125, 99.0):
        with pytest.raises(
            InputError, match="must be a multiple of 0.01 s, at least a step of 0.1"
        ):
            AstConfig(model=tiny_ast, hop_s=hop_s).spec()


def test_weights_of_another_architecture_are_refused(tiny_clip, tiny_ast, tmp_path):
    with pytest.raises(WeightsError, match="holds no weights of 'ViT-B-32'"):
        ClipConfig(model="ViT-B-32", pretrained=tiny_clip["pretrained"]).build(CPU)
    (tmp_path / "text.safetensors").write_text("no weights")
    with pytest.raises(WeightsError, match="holds no weights of 'tiny-clip'"):
        ClipConfig(model=tiny_clip["model"], pretrained=str(tmp_path / "text.safetensors")).build(
            CPU
        )
    folder = tmp_path / "ast"
    folder.mkdir()
    for path in Path(tiny_ast).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(
        config.replace('"num_hidden_layers": 2', '"num_hidden_layers": 3')
    )
    with pytest.raises(WeightsError, match="lacks weights of the AST"):
        AstConfig(model=str(folder), hop_s=0.64).build(CPU)
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="the folder lacks model.safetensors"):
        AstConfig(model=str(folder)).spec()


def test_a_pickle_of_weights_needs_its_digest(tiny_clip, tmp_path):
    path = tmp_path / "weights.pt"
    torch.save(load_file(tiny_clip["pretrained"]), path)
    config = ClipConfig(model=tiny_clip["model"], pretrained=str(path))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(WeightsError, match=f"is no safetensors file.*weights_sha256={digest}"):
        config.spec()
    with pytest.raises(WeightsError, match="is no safetensors file"):
        config.build(CPU)
    pinned = config.model_copy(update={"weights_sha256": digest})
    plain = ClipConfig(**tiny_clip).build(CPU).model.state_dict()
    for name, tensor in pinned.build(CPU).model.state_dict().items():
        assert torch.equal(tensor, plain[name])
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(WeightsError, match=f"and encoders.clip.weights_sha256 says {digest}"):
        pinned.build(CPU)


@pytest.mark.parametrize("field", ["precision", "hop_s", "keep"])
def test_each_setting_is_in_the_spec(tiny_ast, field):
    changed = {"precision": "bfloat16", "hop_s": 0.32, "keep": "last"}[field]
    config = AstConfig(model=tiny_ast, hop_s=0.64)
    assert config.model_copy(update={field: changed}).spec().digest != config.spec().digest


def test_a_copy_of_the_weights_has_the_same_spec(tiny_ast, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in Path(tiny_ast).iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    assert (
        AstConfig(model=str(copy), hop_s=0.64).spec()
        == AstConfig(model=tiny_ast, hop_s=0.64).spec()
    )


def test_crops_without_times_or_of_another_video_are_refused(
    encoded, tiny_clip, make_crops, make_video
):
    encoder = ClipConfig(**tiny_clip).build(CPU)
    folder, video = make_crops([1, 9]), make_video(time_s=np.arange(5) / 25)
    three_more, _ = encoded(encoder, source(frames=make_crops([1, 8], "to-8"), video=video))
    assert len(three_more.time_s) == 8
    with pytest.raises(MediaError, match="has crop 9, but .* has 5 frames; at most 3 more"):
        encoded(encoder, source(frames=folder, video=video))
    with pytest.raises(MediaError, match="no `video` to time them and no `fps`"):
        encoded(encoder, source(frames=folder))
    with pytest.raises(MediaError, match="neither `video` nor `frames`"):
        encoded(encoder, source())
    assert len(read_frame_times(video, None).time_s) == 5


@given(
    hop=st.integers(10, 128),
    seconds=st.floats(0.03, 20),
    start_s=st.floats(-1, 1),
    keep=st.sampled_from(["centre", "last"]),
)
@example(hop=60, seconds=20.0, start_s=0.0, keep="centre")  # centres that tie between windows
@example(hop=20, seconds=20.0, start_s=0.0, keep="centre")
@settings(deadline=None)
def test_the_steps_of_any_windows_have_no_gap_and_no_duplicate(
    ast_of_hop, hop, seconds, start_s, keep
):
    encoder = ast_of_hop(hop, keep)
    n_frames = 1 + max(0, int(seconds * 100) - 2)
    firsts = np.array(encoder.windows.starts(n_frames))
    layout = WindowLayout(start_s, seconds, firsts, None)
    outputs = [torch.zeros(len(firsts), encoder.n_steps, 32)]
    track, _ = encoder.assemble(outputs, layout)
    steps_s = np.diff(track.time_s)
    assert np.all((steps_s > 0.009) & (steps_s < 0.2))  # 0.1, but where windows meet
    assert track.time_s[0] == pytest.approx(start_s + 0.0875)
    assert track.time_s[-1] > start_s + min(seconds, firsts[-1] / 100 + 1.28) - 0.2
    assert len(track.time_s) == 1 or track.time_s[-1] < start_s + seconds


@pytest.fixture(scope="module")
def ast_of_hop(tiny_ast):
    encoder = AstConfig(model=tiny_ast, hop_s=0.64).build(CPU)

    def with_hop(hop: int, keep: str):
        encoder.windows, encoder.keep = AudioWindows(encoder.extractor, hop), keep
        return encoder

    return with_hop


def test_another_model_of_the_same_name_is_refused(tiny_clip, tmp_path):
    content = json.loads(Path(tiny_clip["model"]).read_text())
    other = {**content, "vision_cfg": {**content["vision_cfg"], "head_width": 16}}
    same_name, own_name = tmp_path / "tiny-clip.json", tmp_path / "tiny-other.json"
    same_name.write_text(json.dumps(other))
    own_name.write_text(json.dumps(other))
    plain = ClipConfig(**tiny_clip)
    plain.spec()
    with pytest.raises(InputError, match="another model by the name 'tiny-clip'; rename the file"):
        plain.model_copy(update={"model": str(same_name)}).spec()
    renamed = plain.model_copy(update={"model": str(own_name)}).spec()
    assert renamed.model["vision_cfg"] != plain.spec().model["vision_cfg"]
    assert renamed.weights_sha256 == plain.spec().weights_sha256


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ('{"embed_dim": 3}', "it lacks vision_cfg.image_size, text_cfg"),
        ("[]", "lacks"),
    ],
)
def test_an_invalid_model_config_is_refused_and_changes_nothing(tmp_path, tiny_clip, text, message):
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(InputError, match=message):
        ClipConfig(model=str(tmp_path / "bad.json")).spec()
    ClipConfig(**tiny_clip).spec()


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("preprocessor_config.json", {"do_normalize": False}, "says do_normalize: false"),
        ("preprocessor_config.json", {"max_length": 100}, "makes windows of 100 x 128"),
    ],
)
def test_an_extractor_that_does_not_fit_the_network_is_refused(
    tiny_ast, tmp_path, file, change, message
):
    copy = tmp_path / "ast"
    shutil.copytree(tiny_ast, copy)
    (copy / file).write_text(json.dumps({**json.loads((copy / file).read_text()), **change}))
    with pytest.raises(WeightsError, match=message):
        AstConfig(model=str(copy), hop_s=0.64).spec()


def test_the_config_of_the_network_is_in_the_spec(tiny_ast, tmp_path):
    copy = tmp_path / "ast"
    shutil.copytree(tiny_ast, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "hidden_act": "relu"}))
    specs = [AstConfig(model=str(folder), hop_s=0.64).spec() for folder in (tiny_ast, copy)]
    assert specs[0].name != specs[1].name


def test_a_value_beyond_float16_is_an_error_of_the_clip():
    with pytest.raises(MediaError, match="beyond float16"):
        to_stored(torch.tensor([1.0, 70_000.0]))
    np.testing.assert_array_equal(to_stored(torch.tensor([1.5])), np.array([1.5], np.float16))
