"""Run folders: their files, checkpoints and trained models."""
