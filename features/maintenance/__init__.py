"""Commands on an existing store: status, why, verify, repair, garbage collection."""
