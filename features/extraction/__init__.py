"""Extraction: clips that a feature store lacks are decoded, encoded and stored."""
