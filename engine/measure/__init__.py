"""What a model costs: parameters, operations, memory and time."""
