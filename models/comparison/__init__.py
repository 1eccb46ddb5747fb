"""Comparison of trained runs: differences of settings and of scores, and their page."""
