"""Change of a trained model's number of weights over time: more for the same function, or fewer for the nearest."""

import copy
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from odebackbones.block import ODEBlock, ode_blocks
from odebackbones.checks import one_for_each
from odebackbones.errors import InputError, name_prefix
from odebackbones.fields.affine import TimeNorm
from odebackbones.fields.basis import projection, require_basis, require_reached
from odebackbones.fields.conv import TimeConv2d
from odebackbones.ode.solvers import evaluation_times, has_fixed_cost

Model = TypeVar("Model", bound=nn.Module)


def change_bases(
    model: Model,
    bases: int | Sequence[int],
    *,
    norm_bases: int | Sequence[int] | None = None,
    basis: str | None = None,
) -> Model:
    r"""Return a copy of ``model`` whose fields have ``bases`` weights over time, projected from the present ones.

    The new :math:`\theta'(t)` is nearest to :math:`\theta(t)` in the mean square at the solver's evaluation times, and
    equal where the new basis can represent the old one there. Where these times leave a choice, and for a solver that
    finds its own times, it is nearest over [0, 1]. :func:`~odebackbones.fields.basis.refined_size` gives a size that
    keeps the function. Running statistics belong to the solver's times, and stay.

    Args:
        model: A model with ODE blocks.
        bases: Number of weights K of every block, or one number for each block.
        norm_bases: Number of gains and offsets of the norms, or one number for each block; None for ``bases``.
        basis: Name of the new basis; None keeps each field's.

    Raises:
        InputError: The model has no ODE blocks, or more or fewer blocks than ``bases``; the basis is unknown, or the
            solver reaches fewer weights; or a field has no weights over time.
    """
    changed = copy.deepcopy(model)
    blocks = ode_blocks(changed)
    sizes = one_for_each("bases", bases, len(blocks))
    norm_sizes = sizes if norm_bases is None else one_for_each("norm_bases", norm_bases, len(blocks))
    for block, size, norm_size in zip(blocks, sizes, norm_sizes, strict=True):
        change_block(block, size, norm_size, basis=basis)
    return changed


def change_block(block: ODEBlock, bases: int, norm_bases: int, *, basis: str | None) -> None:
    """Project the parameters over time of the block's field."""
    layers = [module for module in block.field.modules() if isinstance(module, TimeConv2d | TimeNorm)]
    if not layers:
        raise InputError(f"{name_prefix(block.name)}{type(block.field).__name__} has no weights over time to change")
    for module in layers:
        name, size = basis or module.basis, norm_bases if isinstance(module, TimeNorm) else bases
        require_basis(name, size)
        times = evaluation_times(block.solver, block.t_span) if has_fixed_cost(block.solver) else []
        if times:
            require_reached(name, size, times)
        matrix = projection(module.basis, module.bases, name, size, times=times)
        for key, parameters in list(module.named_children()):
            if isinstance(parameters, nn.ParameterList) and len(parameters):
                setattr(module, key, projected(parameters, matrix))
        module.basis, module.bases = name, size


@torch.no_grad()
def projected(parameters: nn.ParameterList, matrix: Tensor) -> nn.ParameterList:
    """Multiply the matrix by the stacked parameters: ``K x (...), (K', K) -> K' x (...)``."""
    stacked = torch.stack(list(parameters))
    rows = torch.tensordot(matrix.to(stacked), stacked, dims=1)
    return nn.ParameterList([nn.Parameter(row.clone(), requires_grad=parameters[0].requires_grad) for row in rows])
