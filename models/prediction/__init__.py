"""Predictions of videos without a manifest: inputs, tables, pictures and the page."""
