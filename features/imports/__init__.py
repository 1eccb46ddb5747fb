"""Features that were made elsewhere, brought into a store as a feature set."""
