"""Adaptive methods with tolerances for the tests."""

import pytest

from odebackbones.ode import SolverConfig
from odebackbones.ode.methods.tableaus import ADAPTIVE_TABLEAUS

TOLERANCES = {"adaptive_heun": 1e-4, "bosh3": 1e-6, "dopri5": 1e-8, "dopri8": 1e-10}
"""Method -> the relative tolerance at which it is tried, so that all take some dozens of steps."""


methods = pytest.mark.parametrize("method", TOLERANCES)


def config(method, gradient="checkpoint", rtol=None, **kwargs):
    rtol = rtol or TOLERANCES[method]
    return SolverConfig(method, gradient=gradient, rtol=rtol, atol=rtol, **kwargs)


def evaluations(method, steps):
    """Of accepted steps that are taken again; torchdiffeq's adaptive_heun keeps a slope from each to the next."""
    return 1 + steps if method == "adaptive_heun" else steps * ADAPTIVE_TABLEAUS[method].stages
