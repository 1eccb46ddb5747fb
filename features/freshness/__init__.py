"""Whether the record of a clip is up to date with its media."""
