"""Reversible methods for the tests."""

import pytest
from trained_fields import (
    STEPS,
)

from odebackbones.ode import SolverConfig

METHODS = ("leapfrog", "alf", "reversible_heun")
methods = pytest.mark.parametrize("method", METHODS)
state_dtypes = pytest.mark.parametrize("state_dtype", ["int32", "float64"])


def config(method, steps=STEPS, state_dtype="auto", **kwargs):
    return SolverConfig(method, steps, "reversible", state_dtype=state_dtype, **kwargs)
