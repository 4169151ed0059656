"""The ODE engine: explicit solvers with exact gradients. It knows torch, and nothing of images or timm."""

from odebackbones.ode.integrate import Solution, odeint
from odebackbones.ode.solvers import SolverConfig
from odebackbones.ode.stats import SolverStats

__all__ = ["Solution", "SolverConfig", "SolverStats", "odeint"]
