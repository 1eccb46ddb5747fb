"""Training data: features and labels on one clock, packed, in windows and batches."""
