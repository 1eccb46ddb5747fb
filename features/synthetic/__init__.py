"""The rendered data set: drawn faces and synthetic voices that follow valence and arousal."""

from features.synthetic.dataset_writer import (
    DEFAULT_CLIPS,
    DEFAULT_SECONDS,
    DEFAULT_SEED,
    is_rendered,
    render,
)

__all__ = ["DEFAULT_CLIPS", "DEFAULT_SECONDS", "DEFAULT_SEED", "is_rendered", "render"]
