"""What is written while a training runs, in a folder that its end removes."""

from collections.abc import Sequence

from models.runs.folder import TRAINING, RunConfig, write_config, write_metrics
from models.training.config import EpochResult


def write_training(config: RunConfig, epochs: Sequence[EpochResult]) -> None:
    """Write the config and the epochs that have ended, so that they can be read before the end."""
    write_config(config, config.run / TRAINING)
    write_metrics(config.run / TRAINING, epochs)
