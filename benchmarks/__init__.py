"""Benchmarks: measured ratios, each a command of its own."""
