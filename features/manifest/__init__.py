"""The manifest of a data set, and its label files."""
