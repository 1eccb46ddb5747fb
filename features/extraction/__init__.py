"""Extraction: what a feature store lacks is decoded, encoded and stored."""
