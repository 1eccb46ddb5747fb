"""The feature store: its layout on disk, its backends, and its records."""
