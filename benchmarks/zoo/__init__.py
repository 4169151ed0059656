"""Measures the models: what they cost, and trained ResNets that became ODE models."""
