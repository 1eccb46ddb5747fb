"""The concordance correlation coefficient, predictions, smoothing and intervals."""
