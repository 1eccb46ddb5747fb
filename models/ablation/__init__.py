"""Ablations: variants of a head that change one thing, over several seeds."""
