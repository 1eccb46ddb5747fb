"""Stage one: media, frozen encoders, the feature store. Knows nothing of heads or flows."""
