"""Continuous-depth (Neural-ODE) backbones. Importing this package registers its models in timm."""

from odebackbones.basis_change import change_bases
from odebackbones.basis_fit import fit_bases
from odebackbones.convert import from_resnet, to_resnet
from odebackbones.errors import InputError, SolverError
from odebackbones.fuse import fuse
from odebackbones.models import ODEResNet
from odebackbones.recompute import recompute_blocks
from odebackbones.saving import model_arguments, save_pretrained
from odebackbones.solver_change import calibrate, change_solver
from odebackbones.stages import ODEBlock, compile_fields, ode_blocks, set_gradient, solver_stats
from odebackbones.time_norms import freeze_norms

__all__ = [
    "InputError",
    "ODEBlock",
    "ODEResNet",
    "SolverError",
    "calibrate",
    "change_bases",
    "change_solver",
    "compile_fields",
    "fit_bases",
    "freeze_norms",
    "from_resnet",
    "fuse",
    "model_arguments",
    "ode_blocks",
    "recompute_blocks",
    "save_pretrained",
    "set_gradient",
    "solver_stats",
    "to_resnet",
]
