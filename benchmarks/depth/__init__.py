"""Benchmarks of the depth encoders: ``python tools/benchmark.py depth``."""
