"""What heads of a tiny width are built from and fed with."""

import json
from pathlib import Path

import open_clip
import torch

from models.data.batch import Batch
from models.data.statistics import Statistics
from models.heads.base import HeadInputs
from models.heads.dspl import DsplConfig
from models.regions.texts_file import read_texts
from models.regions.whole_tower import open_tower
from models.runs.folder import METRICS
from models.training.config import TrainConfig
from models.training.loss_config import LossConfig
from tests.helpers.synthetic import WIDTH_AUDIO, WIDTH_VISUAL, tiny_model
from tests.helpers.two_streams import two_stream_batch

HEAD = DsplConfig(width=16, dropout=0.1)
FULL = TrainConfig(
    epochs=12, window=40, stride=30, batch_size=4, learning_rate=1e-2, patience=12, threads=1
)
BRIEF = FULL.model_copy(update={"epochs": 2, "stride": 40})


def without_seconds(run: Path) -> list[dict[str, float]]:
    """The lines of a run's metrics but for how long the epochs took."""
    lines = [json.loads(line) for line in (run / METRICS).read_text().splitlines()]
    return [{name: each for name, each in line.items() if name != "seconds"} for line in lines]


def without_region_loss(train: TrainConfig) -> TrainConfig:
    return train.model_copy(update={"loss": LossConfig(region_weight=0)})


def head_inputs() -> HeadInputs:
    """Statistics drawn once, and prompts on the tiny text tower."""
    tower = open_tower(tiny_model(), open_clip.SimpleTokenizer())
    texts = read_texts("nine_regions")
    rng = torch.Generator().manual_seed(1)

    def statistics(width: int) -> Statistics:
        return Statistics(torch.randn(width, generator=rng), 0.5 + torch.rand(width, generator=rng))

    return HeadInputs(
        {"visual": statistics(WIDTH_VISUAL), "audio": statistics(WIDTH_AUDIO)},
        ("visual",),
        lambda prompts: prompts.build(tower, texts),
    )


def make_batch(n_rows: int = 11) -> Batch:
    """Three windows with gaps: the second has no sound, the third is padded from row 7 on."""
    rng = torch.Generator().manual_seed(2)
    visual_valid = torch.rand(3, n_rows, generator=rng) > 0.2
    audio_valid = torch.rand(3, n_rows, generator=rng) > 0.2
    audio_valid[1] = False  # a clip without sound
    visual_valid[2, 7:] = audio_valid[2, 7:] = False  # padding
    visual = torch.randn(3, n_rows, WIDTH_VISUAL, generator=rng)
    audio = torch.randn(3, n_rows, WIDTH_AUDIO, generator=rng)
    return two_stream_batch(
        visual * visual_valid.unsqueeze(-1),
        visual_valid,
        audio * audio_valid.unsqueeze(-1),
        audio_valid,
    )
