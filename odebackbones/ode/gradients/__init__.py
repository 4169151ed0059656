"""Gradient modes: how the backward pass gets the states of the forward pass."""
