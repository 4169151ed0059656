"""Layers that keep their input only, and are evaluated again in the backward pass."""

from typing import Any

import torch
from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn

from odebackbones.errors import InputError
from odebackbones.ode.gradients import CheckpointedSolve
from odebackbones.ode.guards import wants_gradient
from odebackbones.ode.integrators import Integrator
from odebackbones.ode.schedule import Budget


class Recomputed(nn.Module):
    """What makes a module so; torch.utils.checkpoint would count the batch twice in running statistics."""

    recompute: bool

    def __call__(self, x: Tensor) -> Any:
        """As the block, with less memory where a backward pass can follow."""
        parameters = tuple(self.parameters())
        if not self.recompute or not wants_gradient(x, parameters):
            return super().__call__(x)
        return CheckpointedSolve.apply(OneEvaluation(self), Budget(1), x, *parameters)


class OneEvaluation(Integrator):
    """A block as a solve of one step, for :class:`~odebackbones.ode.gradients.CheckpointedSolve`."""

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
