"""Training of the small encoders that the repository carries."""
