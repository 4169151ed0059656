"""Trained networks as ODE models and back, and other solvers and bases for the same weights."""
