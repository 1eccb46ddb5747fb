"""Statistics of the rows in a store."""
