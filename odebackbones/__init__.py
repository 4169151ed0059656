"""Continuous-depth (Neural-ODE) backbones. Importing this package registers its models in timm.

What needs timm is imported when it is first used, or with timm: :mod:`odebackbones.ode` alone needs torch alone.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from odebackbones.errors import InputError, SolverError
from odebackbones.registration import register_with_timm

if TYPE_CHECKING:
    from odebackbones.basis_change import change_bases
    from odebackbones.basis_fit import fit_bases
    from odebackbones.block import ODEBlock, compile_fields, ode_blocks, set_gradient, solver_stats
    from odebackbones.convert import from_resnet, to_resnet
    from odebackbones.fusion import fuse
    from odebackbones.models import ODEResNet
    from odebackbones.models.recompute import recompute_blocks
    from odebackbones.saving import model_arguments, save_pretrained
    from odebackbones.solver_change import calibrate, change_solver
    from odebackbones.time_norms import freeze_norms

__version__ = "0.1.0"

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

HOMES: dict[str, tuple[str, ...]] = {
    "odebackbones.block": ("ODEBlock", "compile_fields", "ode_blocks", "set_gradient", "solver_stats"),
    "odebackbones.models": ("ODEResNet",),
    "odebackbones.solver_change": ("calibrate", "change_solver"),
    "odebackbones.basis_change": ("change_bases",),
    "odebackbones.basis_fit": ("fit_bases",),
    "odebackbones.time_norms": ("freeze_norms",),
    "odebackbones.convert": ("from_resnet", "to_resnet"),
    "odebackbones.fusion": ("fuse",),
    "odebackbones.saving": ("model_arguments", "save_pretrained"),
    "odebackbones.models.recompute": ("recompute_blocks",),
}
"""Module -> what this package has of it."""

register_with_timm()


def __getattr__(name: str) -> Any:
    home = next((module for module, names in HOMES.items() if name in names), None)
    if home is None and find_spec(f"{__name__}.{name}"):
        return import_module(f"{__name__}.{name}")
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(home), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
