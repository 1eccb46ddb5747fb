"""Each stage of extraction alone: decode, resize, spectrogram, write; and what resizing gets wrong.

Run by `encode.py`; on its own it prints the same part of the report.

    python benchmarks/stages.py [--quick] [--json FILE]
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import av
import numpy as np
import torch
from open_clip.transform import image_transform_v2
from PIL import Image
from torchvision.transforms import CenterCrop, InterpolationMode, Resize

from benchmarks.helpers.blank_spec import blank_spec
from benchmarks.helpers.encoder_configs import ast_config, clip_config
from benchmarks.helpers.extraction_jobs import CPU, STORES
from benchmarks.helpers.media_sets import MEDIA, Shape, make_set, videos
from benchmarks.helpers.timing import Report, arguments, in_turns
from benchmarks.plain_baseline import RATE_HZ, heard, windows
from features.clip import Track
from features.encoders.ast import FBANK_HOP_S
from features.media.decoder import Decoder
from features.media.limits import DEFAULT_LIMITS
from features.store.feature_store import FeatureStore

N_PICTURES = 24
HOP_S = 0.5  # of overlapping windows of 10.24 s
WRITTEN = blank_spec("clip")


def main() -> None:
    """The stages alone."""
    options = arguments(__doc__)
    report = Report()
    encoder = clip_config("ViT-B-32", "float32").build(CPU)
    measure(report, encoder, n_rounds=2 if options.quick else 5)
    report.write(options.json)


def measure(report: Report, encoder: Any, n_rounds: int) -> None:
    """Add every stage to the report; the encoder is a CLIP, of which only preprocessing is used."""
    for height in (360, 720):
        video = videos(make_set(MEDIA, Shape(4, height=height), 1))[0]
        decode(report, video, f"{height}p", n_rounds)
        preprocess(report, encoder, video, f"{height}p", n_rounds)
    spectrogram(report, n_rounds)
    write(report, n_rounds)


def decode(report: Report, video: Path, name: str, n_rounds: int) -> None:
    """Frames per second: PyAV in this process (RGB included), and through the product's own."""
    n_frames = _decoded(video, 1)
    with closing(Decoder(DEFAULT_LIMITS, 1)) as decoder:
        decoder.probe(video)  # its process is up
        ways: dict[str, Callable[[], object]] = {
            f"decode_{name}_1_thread": lambda: _decoded(video, 1),
            f"decode_{name}_2_threads": lambda: _decoded(video, 2),
            f"decode_{name}_process": lambda: [None for _ in decoder.frames(video, None)],
        }
        times_s = in_turns(ways, n_rounds)
    began = time.process_time()
    _decoded(video, 1)
    report.numbers[f"decode_{name}_frames_per_cpu_s"] = n_frames / (time.process_time() - began)
    for way, runs in times_s.items():
        report.numbers[f"{way}_frames_per_s"] = n_frames / median(runs)


def _decoded(video: Path, n_threads: int) -> int:
    return sum(1 for _ in _rgb_frames(video, n_threads))


def _rgb_frames(video: Path, n_threads: int = 1) -> Iterator[np.ndarray]:
    with av.open(str(video)) as container:
        container.streams.video[0].codec_context.thread_count = n_threads
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


def preprocess(report: Report, encoder: Any, video: Path, name: str, n_rounds: int) -> None:
    """From decoded frames to what the network takes: ours, and open_clip's picture by picture."""
    pictures = list(islice(_rgb_frames(video), N_PICTURES))
    side_px = encoder.size[0]
    by_pil = [Resize(side_px, InterpolationMode.BICUBIC), CenterCrop(side_px)]
    transform = image_transform_v2(encoder.preprocessing, is_train=False)

    def ours() -> torch.Tensor:
        resized = encoder.preprocess(pictures)
        return (resized.float().div_(255) - encoder.mean) / encoder.std

    def plain() -> torch.Tensor:
        return torch.stack([transform(Image.fromarray(picture)) for picture in pictures])

    def pil(picture: np.ndarray) -> np.ndarray:
        return np.asarray(by_pil[1](by_pil[0](Image.fromarray(picture))))

    ways: dict[str, Callable[[], object]] = {
        "naive_loader": plain,
        "preprocess": ours,
        "resize_pil": lambda: [pil(picture) for picture in pictures],
        "resize": lambda: encoder.preprocess(pictures),
    }
    times_s = {way: median(runs) for way, runs in in_turns(ways, n_rounds + 2).items()}
    report.numbers |= {f"{way}_{name}_ms": 1e3 * s / N_PICTURES for way, s in times_s.items()}
    ratio = times_s["naive_loader"] / times_s["preprocess"]
    report.ratios[f"preprocess_over_naive_loader_{name}"] = ratio
    reference = np.stack([pil(picture) for picture in pictures]).astype(int)
    apart = np.abs(encoder.preprocess(pictures).permute(0, 2, 3, 1).numpy().astype(int) - reference)
    report.numbers[f"resize_{name}_grey_levels_most"] = float(apart.max())
    report.numbers[f"resize_{name}_grey_levels_mean"] = float(apart.mean())


def spectrogram(report: Report, n_rounds: int) -> None:
    """Overlapping windows: one spectrogram of the whole sound and slices, against each alone."""
    encoder = ast_config("float32", HOP_S).build(CPU)
    samples = heard(videos(make_set(MEDIA, Shape(60, fps=2), 1))[0])
    rows_s = encoder.extractor.max_length * FBANK_HOP_S

    def whole() -> int:
        return len(list(encoder.windows.from_blocks([samples])))

    def alone() -> int:
        each = windows(samples, HOP_S, rows_s)
        return len([encoder.extractor(w, sampling_rate=RATE_HZ, return_tensors="pt") for w in each])

    ways: dict[str, Callable[[], object]] = {"fbank_whole": whole, "fbank_per_window": alone}
    times_s = {way: median(runs) for way, runs in in_turns(ways, n_rounds + 2).items()}
    report.numbers |= {f"{way}_windows_per_s": whole() / s for way, s in times_s.items()}
    report.ratios["fbank_over_windows"] = times_s["fbank_per_window"] / times_s["fbank_whole"]


def write(report: Report, n_rounds: int, n_records: int = 20) -> None:
    """Records of 300 x 512 per second to a store, each synced to the disk."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((300, 512)).astype(np.float16)
    track = Track(values, np.arange(300) / 30, np.ones(300, bool))
    STORES.mkdir(parents=True, exist_ok=True)

    def write_all() -> None:
        with tempfile.TemporaryDirectory(dir=STORES) as folder:
            store = FeatureStore.open(Path(folder) / "s.zarr", create=True)
            for k in range(n_records):
                store.write(WRITTEN, f"c{k}", track, source={}, provenance={})

    times_s = in_turns({"write": write_all}, n_rounds)["write"]
    report.numbers["write_records_per_s"] = n_records / median(times_s)


if __name__ == "__main__":
    main()
