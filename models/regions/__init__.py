"""The nine regions of the valence-arousal plane, and their prompts."""
