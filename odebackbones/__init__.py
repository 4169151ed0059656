"""Continuous-depth (Neural-ODE) backbones. Importing this package registers its models in timm."""

from odebackbones.errors import InputError, SolverError
from odebackbones.fields import freeze_norms
from odebackbones.fuse import fuse
from odebackbones.models import ODEResNet
from odebackbones.recompute import recompute_blocks
from odebackbones.solver_change import calibrate, change_solver
from odebackbones.stages import ODEBlock, compile_fields, set_gradient, solver_stats

__all__ = [
    "InputError",
    "ODEBlock",
    "ODEResNet",
    "SolverError",
    "calibrate",
    "change_solver",
    "compile_fields",
    "freeze_norms",
    "fuse",
    "recompute_blocks",
    "set_gradient",
    "solver_stats",
]
