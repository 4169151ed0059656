"""Transfer of weights from a residual block to a field, and back."""

from typing import Any

import timm.models.resnet
import torch
from timm.layers import DropPath, SEModule
from torch import Tensor, nn

from odebackbones.fields.attention import TimeSqueezeExcite
from odebackbones.fields.batch_norm import TimeBatchNorm2d
from odebackbones.fields.from_block import Field, attention, branch
from odebackbones.fields.residual import BasicField


@torch.no_grad()
def set_branch(field: Field, basis: int, block: nn.Module, *, factor: float) -> None:
    """Copy a block's branch, times ``factor``, into one basis of a field of duration 1.

    Weights, gains and offsets go to the basis, running statistics to the node with the same index; the last gain and
    offset contain the factor.
    """
    pairs = zip(field.layers(), branch(block), strict=True)
    for (conv, norm), (from_conv, from_norm) in pairs:
        is_last = norm is field.layers()[-1][1]
        scale = factor if is_last else 1.0
        assert isinstance(norm, TimeBatchNorm2d) and isinstance(from_norm, nn.BatchNorm2d)
        copy_parameter(conv.weight[basis], from_conv.weight)
        copy_parameter(norm.weight[basis], from_norm.weight, factor=scale)
        copy_parameter(norm.bias[basis], from_norm.bias, factor=scale)
        norm.set_statistics(basis, from_norm.get_buffer("running_mean"), from_norm.get_buffer("running_var"))
    if isinstance(field.se, TimeSqueezeExcite) and (se := attention(block)):
        for conv, from_conv, scale in ((field.se.fc1, se.fc1, 1.0 / factor), (field.se.fc2, se.fc2, 1.0)):
            copy_parameter(conv.weight[basis], from_conv.weight, factor=scale)  # its input is factor times as large
            copy_parameter(conv.bias[basis], from_conv.bias)


def copy_parameter(parameter: Tensor, other: Any, *, factor: float = 1.0) -> None:
    """Copy a parameter, times ``factor``, and whether it is trained."""
    parameter.copy_(factor * other)
    parameter.requires_grad_(other.requires_grad)


@torch.no_grad()
def plain_block(field: Field, t: float, *, factor: float, activate: bool) -> nn.Module:
    """Build timm's identity block whose branch is the field at time ``t``, times ``factor``.

    Args:
        field: A field with batch norms.
        t: Time in [0, 1].
        factor: Factor of the slope, a step's length.
        activate: Whether a ReLU follows the addition.
    """
    kind = timm.models.resnet.BasicBlock if isinstance(field, BasicField) else timm.models.resnet.Bottleneck
    channels = field.layers()[-1][0].weight[0].shape[0]
    block = kind(channels, channels // kind.expansion, dilation=field.layers()[1][0].dilation[0])
    for i, (conv, norm) in enumerate(field.layers(), start=1):
        is_last = norm is field.layers()[-1][1]
        assert isinstance(norm, TimeBatchNorm2d)
        setattr(block, f"conv{i}", conv.at(t))
        setattr(block, f"bn{i}", norm.at(t, factor=factor if is_last else 1.0))
    if isinstance(field.se, TimeSqueezeExcite):
        block.se = SEModule(channels, rd_channels=1)
        block.se.fc1, block.se.fc2 = field.se.fc1.at(t), field.se.fc2.at(t)
        block.se.fc1.weight.div_(factor * field.se.scale)
    block.drop_path = field.drop_path if isinstance(field.drop_path, DropPath) else None
    if not activate:
        setattr(block, f"act{len(field.layers())}", nn.Identity())
    return block
