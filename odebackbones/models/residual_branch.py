"""Residual blocks, timm's and torchvision's, and the vector fields that are their branches."""

from typing import Any, TypeGuard

import timm.models.resnet
import torch
import torchvision.models.resnet
from timm.layers import DropPath, SEModule, Sigmoid
from torch import Tensor, nn

from odebackbones.errors import InputError
from odebackbones.fields import BasicField, BottleneckField
from odebackbones.time_layers import TimeSqueezeExcite
from odebackbones.time_norms import NormLayer, TimeBatchNorm2d

BASIC = (timm.models.resnet.BasicBlock, torchvision.models.resnet.BasicBlock)
BOTTLENECK = (timm.models.resnet.Bottleneck, torchvision.models.resnet.Bottleneck)

TIMM = (timm.models.resnet.BasicBlock, timm.models.resnet.Bottleneck)

Field = BasicField | BottleneckField


def branch(block: nn.Module) -> list[tuple[nn.Conv2d, nn.Module]]:
    """The convolutions of a block's branch, each with its norm.

    Raises:
        InputError: It is no residual block that is known here.
    """
    if not isinstance(block, BASIC + BOTTLENECK):
        raise InputError(f"block={type(block).__name__}: expected timm's BasicBlock or Bottleneck, or torchvision's")
    numbers = (1, 2) if isinstance(block, BASIC) else (1, 2, 3)
    return [(block.get_submodule(f"conv{i}"), block.get_submodule(f"bn{i}")) for i in numbers]  # pyright: ignore[reportReturnType]


def attention(block: nn.Module) -> SEModule | None:
    """The channel attention of a block, if it has one.

    Raises:
        InputError: It is another than timm's ``"se"``.
    """
    se = block.se if isinstance(block, TIMM) else None
    if se is None or is_plain_attention(se):
        return se
    raise InputError(f"attention {type(se).__name__}: a vector field has timm's 'se', as it comes, or none")


def is_plain_attention(se: nn.Module) -> TypeGuard[SEModule]:
    """Whether it is timm's SEModule with its default parts."""
    if type(se) is not SEModule or se.add_maxpool or se.fc1.bias is None:
        return False
    parts = [type(part) for part in (se.bn, se.act, se.gate)]
    return parts == [nn.Identity, nn.ReLU, Sigmoid]


def drop_path_rate(block: nn.Module) -> float:
    """The probability that an image's branch is dropped in training."""
    drop_path = getattr(block, "drop_path", None)
    return drop_path.drop_prob or 0.0 if isinstance(drop_path, DropPath) else 0.0


def branch_field(block: nn.Module, *, norm: NormLayer, extra: int = 0, bases: int = 1, **kwargs: Any) -> Field:
    """The vector field with the shape of a block's branch, mapped to itself.

    Args:
        block: The block; its output has the channels of state and slope.
        norm: Makes a norm for a number of channels.
        extra: Channels of the state beyond the block's.
        bases: Weights over time.
        **kwargs: Those of the field, such as ``basis``.
    """
    convs = [conv for conv, _ in branch(block)]
    channels = convs[-1].out_channels + extra
    dilation = getattr(block, "dilation", convs[1].dilation[0])  # timm's; that of a first block's convolution differs
    se = attention(block)
    kwargs = {"norm": norm, "bases": bases, "dilation": dilation, "attention": se and se.fc1.out_channels, **kwargs}
    if isinstance(block, BASIC):
        return BasicField(channels, width=convs[0].out_channels, **kwargs)
    return BottleneckField(channels, width=convs[1].out_channels, groups=convs[1].groups, **kwargs)


@torch.no_grad()
def set_branch(field: Field, basis: int, block: nn.Module, *, factor: float) -> None:
    """Give a field of duration 1, in one basis, the branch of a block, ``factor`` times.

    Weights, gains and offsets are those of the basis, running statistics those of the node with its number; the factor
    is in the last gain and offset.
    """
    pairs = zip(field.layers(), branch(block), strict=True)
    for (conv, norm), (from_conv, from_norm) in pairs:
        is_last = norm is field.layers()[-1][1]
        scale = factor if is_last else 1.0
        assert isinstance(norm, TimeBatchNorm2d) and isinstance(from_norm, nn.BatchNorm2d)
        take(conv.weight[basis], from_conv.weight)
        take(norm.weight[basis], from_norm.weight, factor=scale)
        take(norm.bias[basis], from_norm.bias, factor=scale)
        norm.set_statistics(basis, from_norm.get_buffer("running_mean"), from_norm.get_buffer("running_var"))
    if isinstance(field.se, TimeSqueezeExcite) and (se := attention(block)):
        for conv, from_conv, scale in ((field.se.fc1, se.fc1, 1.0 / factor), (field.se.fc2, se.fc2, 1.0)):
            take(conv.weight[basis], from_conv.weight, factor=scale)  # what it sees is factor times as large
            take(conv.bias[basis], from_conv.bias)


def take(parameter: Tensor, other: Any, *, factor: float = 1.0) -> None:
    """Copy a parameter, ``factor`` times, and whether it is trained."""
    parameter.copy_(factor * other)
    parameter.requires_grad_(other.requires_grad)


@torch.no_grad()
def plain_block(field: Field, t: float, *, factor: float, activate: bool) -> nn.Module:
    """timm's identity block whose branch is the field at time ``t``, ``factor`` times.

    Args:
        field: A field with batch norms.
        t: In [0, 1].
        factor: Of the slope, a step's length.
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
