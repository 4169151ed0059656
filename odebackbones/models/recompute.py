"""Layers that keep only their input and are evaluated again in the backward pass."""

from typing import Any

from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn

from odebackbones.errors import InputError
from odebackbones.ode.field_state import FieldState
from odebackbones.ode.gradients.checkpoint import Steps, solve_with_checkpoints
from odebackbones.ode.guards import can_differentiate, wants_gradient
from odebackbones.ode.methods.base import Carry
from odebackbones.ode.schedule import Capacity


class Recomputed(nn.Module):
    """A mixin for such layers; torch.utils.checkpoint would count the batch twice in running statistics."""

    recompute: bool

    def __call__(self, x: Tensor) -> Any:
        """Evaluate the block, with less memory where a backward pass can follow."""
        if not self.recompute or not can_differentiate(x):
            return super().__call__(x)
        inputs = FieldState(self)
        if not wants_gradient(x, inputs.tensors):
            return super().__call__(x)
        return solve_with_checkpoints(Steps(1, self.as_step), Capacity(1), x, inputs)

    def as_step(self, i: int, carry: Carry) -> Carry:
        """Evaluate the block as the single step of a solve."""
        return [super().__call__(carry[0])]


class RecomputedBasicBlock(Recomputed, BasicBlock):
    """timm's BasicBlock, evaluated again."""


class RecomputedBottleneck(Recomputed, Bottleneck):
    """timm's Bottleneck, evaluated again."""


class RecomputedLayers(Recomputed, nn.Sequential):
    """A sequence of layers, evaluated again if :func:`recompute_blocks` has turned it on."""

    recompute = False


BLOCKS: dict[type[nn.Module], type[Recomputed]] = {BasicBlock: RecomputedBasicBlock, Bottleneck: RecomputedBottleneck}


def recompute_blocks(model: nn.Module, *, enable: bool = True) -> None:
    """Make the discrete blocks in ``model`` (timm's residual blocks, an ODE-VGG's layers) keep only their input.

    Gradients stay exact: the second evaluation repeats the random draws and autocast of the first, and does not count
    the batch again. It costs one more forward pass of the blocks.

    Args:
        model: Any module.
        enable: Whether to recompute; False turns it off again.

    Raises:
        InputError: The model has no block that could be recomputed.
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
