"""Gradient modes: where the backward pass takes the states of the forward pass from."""
