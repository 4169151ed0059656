"""Conversion of trained networks to ODE models and back, and changes of solver and bases for the same weights."""
