"""Containers, video, audio and face crops, decoded within limits."""
