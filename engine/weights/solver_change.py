"""Other solvers for trained weights: the settings of a backbone that can be changed without a training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from odebackbones.block import solver_stats
from odebackbones.convert.solver import change_solver
from odebackbones.errors import InputError, unknown_name
from odebackbones.models.stage_options import ODE_ARGUMENTS, makes_no_step
from odebackbones.ode import METHODS

CHANGEABLE = (
    *("solver", "steps", "nodes", "grid", "rtol", "atol", "max_nfe", "degree", "damping"),
    *("gradient", "checkpoints", "state_dtype", "check_finite"),
)
"""Arguments of ODE backbones that the weights do not depend on."""


def solver_changes(trained: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a backbone that differ from the ones it was trained with.

    Args:
        trained: Arguments that the backbone was trained with.
        given: Arguments that it is to be used with; those left out stay.

    Raises:
        InputError: An argument differs on which the weights depend.
    """
    changed = {name: value for name, value in given.items() if value != trained.get(name)}
    for name, value in changed.items():
        if name not in ODE_ARGUMENTS and name not in trained:
            raise unknown_name("option model.backbone_args", name, CHANGEABLE)
        if name not in CHANGEABLE:
            raise InputError(
                f"model.backbone_args.{name}={value!r}: the weights were trained with {trained.get(name)!r}; without a "
                f"new training only the solver can be changed ({', '.join(CHANGEABLE)})"
            )
    return changed


def require_ode_blocks(model: nn.Module, backbone: str, arguments: Mapping[str, Any], run: Path) -> None:
    """Refuse a run without ODE blocks, whose solver can't be changed.

    Raises:
        InputError: Says which backbone it has, and how to come to one with a solver.
    """
    if makes_no_step(arguments):
        raise InputError(
            f"{run}: {backbone} was trained with steps={arguments['steps']}, without any flow whose solver could be "
            f"changed: take a run that makes steps"
        )
    if not solver_stats(model):
        raise InputError(
            f"{run}: {backbone} has no ODE blocks, so there is no solver to change; tools/convert.py --run {run} --out "
            f"FOLDER makes an ODE run of a ResNet's"
        )


def changed_solver(model: nn.Module, changes: Mapping[str, Any]) -> nn.Module:
    """Return a copy of the model under the changed solver, or the model itself if nothing changes.

    Raises:
        InputError: The model has no ODE blocks, or can't be solved like this.
    """
    if not changes:
        return model
    method = changes.get("solver")
    others = {name: value for name, value in changes.items() if name != "solver"}
    if method in METHODS and METHODS[method].build is None:  # it finds its own steps
        others = {"grid": None, "projected": False, **others}
    return change_solver(model, method, **others)
