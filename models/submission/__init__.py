"""Submission files of the challenge: format and check."""
