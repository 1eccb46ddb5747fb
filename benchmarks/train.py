"""How fast a head is trained: against its own arithmetic, and against encoders in every step.

    python benchmarks/train.py [--quick] [--json FILE]

Banks, heads and encoders are of the real sizes, their numbers seeded noise: no video is read and
nothing is fetched. `over_pure_loop` is the time of a pass from the bank over that of the same
steps on batches gathered beforehand (the worst of the heads). `over_released` is the time per
window of the released way (Jung et al., 2026: CLIP ViT-B/16 and AST inside every step, here on
pixels and spectrograms that are ready) over that from the bank, at its window of ten seconds and
its batch of 16, for the preset `released`; `numbers` has it for the GRU, and for a ViT-B/32, too,
and under `..._at_peak` what it would be if a step took no longer than its matrix products at that
peak. The released way costs minutes per step, all but a hundredth of it in encoders that work on
each window by itself: a step of fewer windows is timed, and what one costs is reported. `numbers`
has the arithmetic of each part of a step, forward and backward, and how near it comes to the peak
of this machine's float32 matrix product. `gru_over_torch` is how much faster than `torch.nn.GRU`
the recurrence of a branch is on a CPU, forward and backward, at the width and window of the default
head; `gru_over_torch_demo` at the demo's, on one thread as there.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product

import numpy as np
import open_clip
import torch
from torch import Tensor, nn
from transformers import ASTConfig, ASTModel

from benchmarks.helpers.head_parts import Part, parts_of, peak_flops
from benchmarks.helpers.timing import Report, arguments, in_turns
from features.system.devices import torch_device
from features.system.memory import keep_freed_memory
from models.data.batch import Batch, Modality, StreamBatch, Targets
from models.data.batches import batches
from models.data.packed import PackedFeatures, PackedStream
from models.data.statistics import statistics
from models.data.windows import N_VISUAL
from models.heads.base import Head, HeadInputs
from models.heads.dspl import DsplConfig, ReleasedConfig
from models.nn.cpu_gru import bidirectional_gru
from models.regions.texts_file import read_texts
from models.regions.whole_tower import open_tower
from models.training.config import TrainConfig
from models.training.loop import adam_w, step, training_windows

SEED = 0
CLIP_NAME = "ViT-B-16-quickgelu"  # of the released way, and whose text tower learns prompts
SMALLER_CLIP = "ViT-B-32-quickgelu"  # a quarter of its cost per picture: told beside it
SPECIAL_TOKENS = 2  # of AST, before its patches
CLIP_ROWS, FRAME_S = 1500, 1 / 25  # a minute of video
WIDTHS: dict[Modality, int] = {"visual": 512, "audio": 768}  # of CLIP ViT-B and of AST
UNSEEN = 0.02  # share of rows without a face, sound or label
TRAIN = TrainConfig()
HEADS: dict[str, DsplConfig | ReleasedConfig] = {
    "released_tcn": ReleasedConfig(),
    "released_gru": ReleasedConfig(temporal="gru"),
    "dspl": DsplConfig(),
}
RELEASED = ("released_tcn", "released_gru")  # its two temporal branches
STEPS = {"released_tcn": 6, "released_gru": 6, "dspl": 2}  # in a timed pass


def main() -> None:
    """Measure, print, and write what was asked for."""
    given = arguments(__doc__)
    report, device = Report(), torch_device("auto")
    torch.manual_seed(SEED)
    n_rounds = 3 if given.quick else 9
    bank = random_bank(n_clips=8 if given.quick else 80).to(device)
    clip = real_clip(CLIP_NAME, device)
    heads = {name: built(config, bank, clip, device) for name, config in HEADS.items()}
    window_s = time_released(report, heads["released_tcn"], clip, device, quick=given.quick)
    keep_freed_memory()  # as `train_head` does, and the released way does not
    for name, head in heads.items():
        time_loops(report, name, head, bank, n_rounds)
    over = {name: report.numbers[f"{name}_over_pure_loop"] for name in HEADS}
    report.ratios["over_pure_loop"] = max(over.values())
    for way, head in product(window_s, RELEASED):
        report.numbers[f"{head}_over_{way}"] = (
            window_s[way] * report.numbers[f"{head}_windows_per_s"]
        )
    report.ratios["over_released"] = report.numbers["released_tcn_over_released_way"]
    if device.type == "cpu":
        time_recurrence(report, n_rounds)
    peak = peak_flops(device)
    report.numbers["peak_gflops"] = peak / 1e9
    for name, head in heads.items():
        batch, targets = bank.gather(training_windows(bank, HEADS[name], TRAIN), first(bank, name))
        parts = parts_of(head, HEADS[name], TRAIN, bank, batch, targets)
        tell(report, name, parts, peak)
        if name in RELEASED:
            at_peak = peak / parts[-1].flops * TRAIN.batch_size  # windows a second
            report.numbers[f"{name}_over_released_way_at_peak"] = window_s["released_way"] * at_peak
    report.write(given.json)


def random_bank(n_clips: int) -> PackedFeatures:
    """Rows of the real widths, a minute per clip."""
    n, made = n_clips * CLIP_ROWS, torch.Generator().manual_seed(SEED)

    def valid() -> Tensor:
        return torch.rand(n, generator=made) > UNSEEN

    return PackedFeatures(
        tuple(f"c{k}" for k in range(n_clips)),
        CLIP_ROWS * np.arange(n_clips + 1),
        np.tile(FRAME_S * np.arange(CLIP_ROWS), n_clips),
        streams={
            name: PackedStream(name, torch.randn(n, width, generator=made).half(), valid())
            for name, width in WIDTHS.items()
        },
        va=2 * torch.rand(n, 2, generator=made).double() - 1,
        va_valid=valid(),
    )


def real_clip(name: str, device: torch.device) -> open_clip.CLIP:
    """A CLIP of that architecture, frozen, its weights drawn."""
    return open_clip.create_model(name).to(device).eval().requires_grad_(False)


def built(
    config: DsplConfig | ReleasedConfig,
    bank: PackedFeatures,
    clip: open_clip.CLIP,
    device: torch.device,
) -> Head:
    """The head in training, its prompts on the real text tower."""
    tower = open_tower(clip, open_clip.get_tokenizer(CLIP_NAME))
    inputs = HeadInputs(
        {name: statistics(each.values, each.valid) for name, each in bank.streams.items()},
        ("visual",),
        lambda prompts: prompts.build(tower, read_texts(prompts.texts)),
    )
    return config.build(inputs).to(device).train()


def first(bank: PackedFeatures, name: str) -> np.ndarray:
    """A batch of windows, drawn."""
    n = len(training_windows(bank, HEADS[name], TRAIN))
    return np.random.default_rng(SEED).permutation(n)[: TRAIN.batch_size]


def time_loops(report: Report, name: str, head: Head, bank: PackedFeatures, n_rounds: int) -> None:
    """The same steps from the bank, and on batches that are ready."""
    config = HEADS[name]
    windows, optimizer = training_windows(bank, config, TRAIN), adam_w(head, TRAIN)
    order = np.random.default_rng(SEED).permutation(len(windows))
    chosen = batches(order, TRAIN.batch_size)[: STEPS[name]]
    ready = [bank.gather(windows, some) for some in chosen]

    def run(given: Callable[[], Iterator[tuple[Batch, Targets]]]) -> float:
        total = torch.zeros((), device=bank["visual"].values.device)
        for batch, targets in given():
            total += step(head, optimizer, batch, targets, TRAIN)
        return total.item()  # waits for a GPU

    ways = {
        f"{name}_from_bank": partial(run, lambda: (bank.gather(windows, k) for k in chosen)),
        f"{name}_pure_loop": partial(run, lambda: iter(ready)),
    }
    for way in ways.values():
        way()  # warm
    report.times_s |= in_turns(ways, n_rounds)
    seconds = report.median_s(f"{name}_from_bank")
    report.numbers[f"{name}_over_pure_loop"] = seconds / report.median_s(f"{name}_pure_loop")
    report.numbers[f"{name}_windows_per_s"] = len(chosen) * TRAIN.batch_size / seconds


def time_released(
    report: Report, head: Head, clip: open_clip.CLIP, device: torch.device, *, quick: bool
) -> dict[str, float]:
    """Steps with both encoders inside, of fewer windows than a batch has: seconds per window."""
    n_windows, n_rounds = (1, 2) if quick else (4, 3)
    towers = {"released_way": clip, "released_way_vit_b_32": real_clip(SMALLER_CLIP, device)}
    ast = ASTModel(ASTConfig()).to(device).eval().requires_grad_(False)
    ways = {
        name: partial(_released_step, head, tower, ast, n_windows) for name, tower in towers.items()
    }
    ways["released_way"]()  # warm
    report.times_s |= in_turns(ways, n_rounds)
    window_s = {name: report.median_s(name) / n_windows for name in ways}
    report.numbers |= {f"{name}_s_per_window": seconds for name, seconds in window_s.items()}
    return window_s


def _released_step(head: Head, clip: open_clip.CLIP, ast: ASTModel, n_windows: int) -> float:
    """One step as it was released, on pixels and spectrograms that are ready: its loss."""
    device = next(ast.parameters()).device
    size, network = clip.visual.image_size, ast.config
    pixels = torch.randn(n_windows * N_VISUAL, 3, *size, device=device)
    sound = torch.randn(n_windows, network.max_length, network.num_mel_bins, device=device)
    with torch.no_grad():
        visual = clip.encode_image(pixels).unflatten(0, (n_windows, N_VISUAL))
        tokens = ast(sound).last_hidden_state[:, SPECIAL_TOKENS:]
        n_bands = (network.num_mel_bins - network.patch_size) // network.frequency_stride + 1
        audio = tokens.unflatten(1, (n_bands, -1)).mean(dim=1)  # (B, 101, 768)
    every = torch.ones(n_windows, N_VISUAL, dtype=torch.bool, device=device)
    heard = torch.ones(audio.shape[:2], dtype=torch.bool, device=device)
    truth = Targets(torch.rand(n_windows, 1, 2, device=device), every[:, :1])
    batch = Batch({"visual": StreamBatch(visual, every), "audio": StreamBatch(audio, heard)})
    return step(head, adam_w(head, TRAIN), batch, truth, TRAIN).item()


def time_recurrence(report: Report, n_rounds: int) -> None:
    """The product's GRU against torch's, on the same weights and rows."""
    shapes = {"": (256, 300, torch.get_num_threads()), "_demo": (96, 50, 1)}
    for name, (width, n_rows, n_threads) in shapes.items():
        gru = nn.GRU(width, width, batch_first=True, bidirectional=True)
        rows = torch.randn(TRAIN.batch_size, n_rows, width, requires_grad=True)
        ways = {
            f"gru{name}_torch": lambda gru=gru, rows=rows: gru(rows)[0].sum().backward(),
            f"gru{name}": lambda gru=gru, rows=rows: bidirectional_gru(gru, rows).sum().backward(),
        }
        before = torch.get_num_threads()
        torch.set_num_threads(n_threads)
        in_turns(ways, 2)  # warm
        report.times_s |= in_turns(ways, 2 * n_rounds)
        torch.set_num_threads(before)
        torchs_s, ours_s = (report.median_s(way) for way in ways)
        report.ratios[f"gru_over_torch{name}"] = torchs_s / ours_s


def tell(report: Report, name: str, parts: list[Part], peak: float) -> None:
    """A table of the parts of a step, and the same into the report."""
    print(f"\n{name}: one step of {TRAIN.batch_size} windows, peak {peak / 1e9:.0f} GFLOP/s")
    print(f"{'part':22}{'GFLOP':>10}{'ms':>10}{'share':>8}{'of peak':>9}")
    whole = parts[-1]
    for part in parts:
        efficiency = part.flops / part.seconds / peak
        share = part.seconds / whole.seconds
        told = f"{part.flops / 1e9:10.2f}{1e3 * part.seconds:10.2f}{share:8.1%}{efficiency:9.1%}"
        print(f"{part.name:22}{told}")
        key = f"{name}_{part.name.replace(' ', '_')}"
        report.numbers |= {
            f"{key}_gflop": part.flops / 1e9,
            f"{key}_ms": 1e3 * part.seconds,
            f"{key}_of_peak": efficiency,
        }


if __name__ == "__main__":
    main()
