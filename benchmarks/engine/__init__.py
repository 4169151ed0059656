"""Benchmarks of the ODE engine: ``python tools/benchmark.py engine``. Every part prints tables and bounded numbers."""

from collections.abc import Callable

from benchmarks.engine import (
    adjoint_training,
    convergence,
    cost,
    detector_memory,
    gradient_errors,
    speed,
    transfer,
)
from benchmarks.measurement import Part

__all__ = ["PARTS"]

PARTS: dict[str, Callable[[int], Part]] = {
    "convergence": convergence.run,
    "gradients": gradient_errors.run,
    "cost": cost.run,
    "speed": speed.run,
    "training": adjoint_training.run,
    "transfer": transfer.run,
    "detector": detector_memory.run,
}
"""Name on the command line -> measurement, called with the number of timing rounds."""
