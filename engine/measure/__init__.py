"""Cost of a model: parameters, operations, memory and time."""
