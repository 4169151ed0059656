"""Layers that keep their input only, and are evaluated again in the backward pass."""

from typing import Any

import torch
from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn

from odebackbones.errors import InputError
from odebackbones.ode.field_state import FieldState
from odebackbones.ode.gradients import solve_with_checkpoints
from odebackbones.ode.guards import can_differentiate, wants_gradient
from odebackbones.ode.integrators import Integrator
from odebackbones.ode.schedule import Budget


class Recomputed(nn.Module):
    """What makes a module so; torch.utils.checkpoint would count the batch twice in running statistics."""

    recompute: bool

    def __call__(self, x: Tensor) -> Any:
        """As the block, with less memory where a backward pass can follow."""
        if not self.recompute or not can_differentiate(x):
            return super().__call__(x)
        field = FieldState(self)
        if not wants_gradient(x, field.tensors):
            return super().__call__(x)
        return solve_with_checkpoints(OneEvaluation(self), Budget(1), x, field)


class OneEvaluation(Integrator):
    """A block as a solve of one step, for :func:`~odebackbones.ode.gradients.solve_with_checkpoints`."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__(block, grid=[(0.0, 1.0)], times=[[0.0]])

    @torch.jit.unused
    def step(self, i: int, carry: list[Tensor]) -> list[Tensor]:
        """The block's output."""
        return [nn.Module.__call__(self.vector_field, carry[0])]  # not its own call, which leads here


class RecomputedBasicBlock(Recomputed, BasicBlock):
    """timm's BasicBlock, evaluated again."""


class RecomputedBottleneck(Recomputed, Bottleneck):
    """timm's Bottleneck, evaluated again."""


class RecomputedLayers(Recomputed, nn.Sequential):
    """Layers one after another, evaluated again once they are asked to (:func:`recompute_blocks`)."""

    recompute = False


BLOCKS: dict[type[nn.Module], type[Recomputed]] = {BasicBlock: RecomputedBasicBlock, Bottleneck: RecomputedBottleneck}


def recompute_blocks(model: nn.Module, *, enable: bool = True) -> None:
    """Let the blocks in ``model`` that are not continuous keep their input only: timm's residual ones, an ODE-VGG's.

    Exact: the second evaluation has the first one's random draws and autocast, and counts no batch. It costs one more
    forward pass of the blocks.

    Args:
        model: Any module.
        enable: False turns it off again.

    Raises:
        InputError: There is no such block to be recomputed.
    """
    found = False
    for module in model.modules():
        if type(module) in BLOCKS:  # another class, not a wrapper: weights and submodules keep their names
            module.__class__ = BLOCKS[type(module)]
        if isinstance(module, Recomputed):
            module.recompute, found = enable, True
    if enable and not found:
        name = type(model).__name__
        raise InputError(f"{name} has nothing to recompute: take a model with BasicBlock or Bottleneck, or an ODE-VGG")
