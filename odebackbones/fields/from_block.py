"""Vector fields that are branches of timm's and torchvision's residual blocks."""

from typing import Any, TypeGuard

import timm.models.resnet
import torchvision.models.resnet
from timm.layers import DropPath, SEModule, Sigmoid
from torch import nn

from odebackbones.errors import InputError
from odebackbones.fields.norms import NormLayer
from odebackbones.fields.residual import BasicField, BottleneckField

BASIC = (timm.models.resnet.BasicBlock, torchvision.models.resnet.BasicBlock)
BOTTLENECK = (timm.models.resnet.Bottleneck, torchvision.models.resnet.Bottleneck)

TIMM = (timm.models.resnet.BasicBlock, timm.models.resnet.Bottleneck)

Field = BasicField | BottleneckField


def branch(block: nn.Module) -> list[tuple[nn.Conv2d, nn.Module]]:
    """Return the convolutions of a block's branch, each with its norm.

    Raises:
        InputError: The block is not a known residual block.
    """
    if not isinstance(block, BASIC + BOTTLENECK):
        raise InputError(f"block={type(block).__name__}: expected timm's BasicBlock or Bottleneck, or torchvision's")
    numbers = (1, 2) if isinstance(block, BASIC) else (1, 2, 3)
    return [(block.get_submodule(f"conv{i}"), block.get_submodule(f"bn{i}")) for i in numbers]  # pyright: ignore[reportReturnType]


def attention(block: nn.Module) -> SEModule | None:
    """Return the channel attention of a block, or None.

    Raises:
        InputError: The attention is not timm's ``"se"``.
    """
    se = block.se if isinstance(block, TIMM) else None
    if se is None or is_plain_attention(se):
        return se
    raise InputError(f"attention {type(se).__name__}: a vector field has timm's 'se', as it comes, or none")


def is_plain_attention(se: nn.Module) -> TypeGuard[SEModule]:
    """Whether an attention layer is timm's SEModule with its default parts."""
    if type(se) is not SEModule or se.add_maxpool or se.fc1.bias is None:
        return False
    parts = [type(part) for part in (se.bn, se.act, se.gate)]
    return parts == [nn.Identity, nn.ReLU, Sigmoid]


def drop_path_rate(block: nn.Module) -> float:
    """Return the probability that an image's branch is dropped in training."""
    drop_path = getattr(block, "drop_path", None)
    return drop_path.drop_prob or 0.0 if isinstance(drop_path, DropPath) else 0.0


def branch_field(block: nn.Module, *, norm: NormLayer, extra: int = 0, bases: int = 1, **kwargs: Any) -> Field:
    """Build the vector field with the shape of a block's branch, with equal input and output channels.

    Args:
        block: The block, whose output has the channels of state and slope.
        norm: Factory of a norm for a number of channels.
        extra: Number of channels of the state beyond the block's.
        bases: Number of weights over time.
        **kwargs: Keyword arguments of the field, such as ``basis``.
    """
    convs = [conv for conv, _ in branch(block)]
    channels = convs[-1].out_channels + extra
    dilation = getattr(block, "dilation", convs[1].dilation[0])  # timm's; a first block's convolution may have another
    se = attention(block)
    kwargs = {"norm": norm, "bases": bases, "dilation": dilation, "attention": se and se.fc1.out_channels, **kwargs}
    if isinstance(block, BASIC):
        return BasicField(channels, width=convs[0].out_channels, **kwargs)
    return BottleneckField(channels, width=convs[1].out_channels, groups=convs[1].groups, **kwargs)
