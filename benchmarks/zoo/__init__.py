"""Benchmarks of the models: their cost, and trained ResNets converted into ODE models."""
