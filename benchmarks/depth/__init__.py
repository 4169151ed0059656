"""Measures the encoders of depth: ``python tools/benchmark.py depth``."""
