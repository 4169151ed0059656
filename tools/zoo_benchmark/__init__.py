"""Measures the models: ``python tools/benchmark.py zoo``. Every ODE model beside what it replaces and the controls."""

from collections.abc import Callable

from tools.measurement import Part

from . import models

__all__ = ["PARTS"]

PARTS: dict[str, Callable[[int], Part]] = {"models": models.run}
"""Name on the command line -> measurement, given the rounds of its timings."""
