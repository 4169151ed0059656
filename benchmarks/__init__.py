"""Measurements of the engine, the models and the encoders, run by tools/benchmark.py."""
