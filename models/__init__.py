"""Stage two: heads on cached features, their training, the official metric."""
