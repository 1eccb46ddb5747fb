"""The demo, its negative controls and its acceptance thresholds."""
