"""Checkpoints, and networks with their weights."""
