"""Models for inference: norms folded into the convolutions before them, at every evaluation time."""

import copy
from itertools import pairwise
from typing import TypeGuard, TypeVar

from timm.layers import FrozenBatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision.ops import FrozenBatchNorm2d

from odebackbones.block import ODEBlock
from odebackbones.errors import InputError
from odebackbones.fields.base import ConvolutionalField
from odebackbones.fields.batch_norm import TimeBatchNorm2d
from odebackbones.inference.fused_field import FusedField
from odebackbones.inference.prepack import pack_convolutions
from odebackbones.ode.methods.adaptive import AdaptiveMethod

Model = TypeVar("Model", bound=nn.Module)

FIXED_NORMS = (nn.BatchNorm2d, FrozenBatchNorm2d, FrozenBatchNormAct2d)
"""Norms that are affine maps in evaluation mode."""


def fuse(model: Model, *, prepack: bool = False) -> Model:
    """Return a copy of ``model`` for inference, in evaluation mode, with batch norms folded into convolutions.

    Norms of ODE blocks are folded once for every evaluation time, with a separate set of weights for each. Other norms
    are folded where they are declared right after a convolution with as many channels, as in timm's and torchvision's
    networks. Outputs are equal up to rounding. Group norms stay, and so do norms that come before a convolution, as in
    Chen et al.'s field.

    Args:
        model: A model in which such norms are also evaluated right after that convolution.
        prepack: Keep the weights in oneDNN's layout: faster on the CPU, and unusable elsewhere; such a model can't be
            saved.

    Raises:
        InputError: A solver finds its own times, for which nothing can be folded; or ``prepack`` is set without
            oneDNN, or for a model that is not in float32 on the CPU.
    """
    fused = copy.deepcopy(model).eval().requires_grad_(False)
    for module in list(fused.modules()):
        if not isinstance(module, ODEBlock):
            fuse_children(module)
        elif is_fusible(field := module.field):
            require_times(module)
            module.field = FusedField(field)
    return pack_convolutions(fused) if prepack else fused


def require_times(block: ODEBlock) -> None:
    """Refuse a solver that finds its own times."""
    if isinstance(block.method, AdaptiveMethod):
        raise InputError(
            f"{block.name}: fuse folds norms at the solver's times, and {block.solver.method!r} finds its own; change "
            f"it first: odebackbones.change_solver(model, 'rk4', steps=...)"
        )


def is_fusible(field: nn.Module) -> TypeGuard[ConvolutionalField]:
    """Whether the field is one of ours, with batch norms."""
    return isinstance(field, ConvolutionalField) and isinstance(field.layers()[0][1], TimeBatchNorm2d)


def fits(conv: nn.Conv2d, norm: nn.Module) -> bool:
    """Whether a norm has statistics, one for each of the convolution's channels."""
    mean = norm.running_mean
    return isinstance(mean, Tensor) and len(mean) == conv.out_channels


def fuse_children(module: nn.Module) -> None:
    """Fold every batch norm among the direct submodules into the convolution just before it."""
    for (_, conv), (name, norm) in pairwise(module.named_children()):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, FIXED_NORMS) and fits(conv, norm):
            statistics = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
            conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, *statistics)  # pyright: ignore[reportArgumentType]
            conv.requires_grad_(False)
            setattr(module, name, getattr(norm, "act", None) or nn.Identity())  # timm's norms may include an activation
