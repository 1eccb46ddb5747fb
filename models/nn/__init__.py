"""Neural network modules, in plain torch."""
