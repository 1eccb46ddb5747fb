"""Training data: features and labels aligned, packed and cut into windows."""
