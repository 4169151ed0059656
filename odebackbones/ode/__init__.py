"""The ODE engine: solvers with exact gradients in bounded memory. It knows torch, but nothing about images or timm."""

from odebackbones.ode.evaluation import TensorTime
from odebackbones.ode.initial_value import Solution, odeint
from odebackbones.ode.solvers import GRADIENTS, METHODS, SolverConfig, build_method
from odebackbones.ode.stats import SolverStats

__all__ = [
    "GRADIENTS",
    "METHODS",
    "Solution",
    "SolverConfig",
    "SolverStats",
    "TensorTime",
    "build_method",
    "odeint",
]
