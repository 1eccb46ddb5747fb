"""The rendered set: drawn faces and synthetic voices that follow valence and arousal."""

from features.rendered.writer import DEFAULT_CLIPS, DEFAULT_SECONDS, DEFAULT_SEED, render

__all__ = ["DEFAULT_CLIPS", "DEFAULT_SECONDS", "DEFAULT_SEED", "render"]
