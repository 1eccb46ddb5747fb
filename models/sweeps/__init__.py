"""Sweeps: trials of a head that are drawn from a space of settings, or on a grid."""
