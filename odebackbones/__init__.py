"""Continuous-depth (Neural-ODE) backbones. Importing this package registers its models in timm.

Modules that need timm are imported on first use, or together with timm; :mod:`odebackbones.ode` needs only torch.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from odebackbones.errors import InputError, SolverError
from odebackbones.registration import register_with_timm

if TYPE_CHECKING:
    from odebackbones.block import ODEBlock, compile_fields, ode_blocks, set_gradient, solver_stats
    from odebackbones.convert.bases import change_bases
    from odebackbones.convert.fit import fit_bases
    from odebackbones.convert.resnet import from_resnet, to_resnet
    from odebackbones.convert.solver import calibrate, change_solver
    from odebackbones.fields.batch_norm import freeze_norms
    from odebackbones.hub import model_arguments, save_pretrained
    from odebackbones.inference.fuse import fuse
    from odebackbones.models import ODEResNet
    from odebackbones.models.recompute import recompute_blocks

__version__ = "0.2.0"

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
    "odebackbones.convert.solver": ("calibrate", "change_solver"),
    "odebackbones.convert.bases": ("change_bases",),
    "odebackbones.convert.fit": ("fit_bases",),
    "odebackbones.fields.batch_norm": ("freeze_norms",),
    "odebackbones.convert.resnet": ("from_resnet", "to_resnet"),
    "odebackbones.inference.fuse": ("fuse",),
    "odebackbones.hub": ("model_arguments", "save_pretrained"),
    "odebackbones.models.recompute": ("recompute_blocks",),
}
"""Module -> names that this package exports from it."""

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
