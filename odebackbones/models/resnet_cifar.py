"""The ResNets of He et al. for images of 32 px, which small ODE models replace and are converted from."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import create_classifier
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn

from odebackbones.block import ODEBlock, find_ode_block, set_checkpointing
from odebackbones.fields.batch_norm import freeze_norms
from odebackbones.fields.from_block import branch_field
from odebackbones.models.default_cfg import default_cfg
from odebackbones.models.stage_options import (
    build_block,
    continuous_stages,
    flowing_stages,
    pop_options,
    require_channels,
    require_known,
    require_norm,
)


class PaddedShortcut(nn.Module):
    """The shortcut without weights (option A): every second pixel, between channels of zeros.

    Shape:
        ``x: (B, C, H, W) -> (B, 2 C, ceil(H / 2), ceil(W / 2))``
    """

    def forward(self, x: Tensor) -> Tensor:
        """Compute the shortcut of ``x``."""
        extra = x.shape[1] // 2
        return F.pad(x[:, :, ::2, ::2], [0, 0, 0, 0, extra, extra])


FEATURES = ((16, 1, "act1"), (16, 1, "layer1"), (32, 2, "layer2"), (64, 4, "layer3"), (64, 4, "layer4"))
"""Channels, stride and module of every level."""


class CifarResNet(ResNet):
    """A ResNet with 16, 32 and 64 channels at strides 1, 2 and 4; timm's ResNet, whose fourth stage is empty.

    K. He, X. Zhang, S. Ren, J. Sun: Deep Residual Learning for Image Recognition, CVPR 2016, arXiv:1512.03385,
    section 4.2

    Args:
        blocks: Number of blocks in each of the three stages.
        num_classes: Number of classes.
        in_chans: Number of channels of the images.
        global_pool: timm's pooling before the classifier.
        drop_rate: Dropout before the classifier.
        zero_init_last: Whether residual branches start at zero.
        device: Device of the parameters.
        dtype: Data type of the parameters.

    Shape:
        ``(B, in_chans, H, W) -> (B, num_classes)``
    """

    def __init__(
        self,
        blocks: int,
        *,
        num_classes: int = 10,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        zero_init_last: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        require_channels(in_chans)
        factory = {"device": device, "dtype": dtype}
        nn.Module.__init__(self)  # timm's constructor builds four stages and another stem
        self.num_classes, self.in_chans, self.drop_rate = num_classes, in_chans, drop_rate
        self.grad_checkpointing = False
        self.conv1 = nn.Conv2d(in_chans, 16, 3, padding=1, bias=False, **factory)
        self.bn1 = nn.BatchNorm2d(16, **factory)
        self.act1 = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity()
        self.layer1 = cifar_stage(16, 16, blocks, **factory)
        self.layer2 = cifar_stage(16, 32, blocks, **factory)
        self.layer3 = cifar_stage(32, 64, blocks, **factory)
        self.layer4 = nn.Sequential()
        self.feature_info = [
            {"num_chs": channels, "reduction": reduction, "module": module} for channels, reduction, module in FEATURES
        ]
        self.num_features = 64
        self.global_pool, self.fc = create_classifier(64, num_classes, pool_type=global_pool, **factory)  # pyright: ignore[reportAssignmentType]
        self.head_hidden_size = 64 * self.global_pool.feat_mult()
        self.init_weights(zero_init_last=zero_init_last)


class ODECifarResNet(CifarResNet):
    """A CifarResNet in which each continuous stage consists of its first block and an ODE block over t in [0, 1].

    Args:
        blocks: Number of blocks in each of the three stages of the ResNet that is replaced.
        **kwargs: Options of :class:`~odebackbones.models.stage_options.StageOptions` (``solver``, ``steps``, ...), and
            keyword arguments of :class:`CifarResNet`.

    Shape:
        ``(B, in_chans, H, W) -> (B, num_classes)``
    """

    def __init__(self, blocks: int, **kwargs: Any) -> None:
        require_known(kwargs, ODECifarResNet, CifarResNet)
        options = pop_options(kwargs, stages=3)
        require_norm(options.norm, ("batch", "frozen"))
        super().__init__(blocks, zero_init_last=options.zero_init_last, **kwargs)
        for i, stage in enumerate((self.layer1, self.layer2, self.layer3)):
            if continuous_stages(options)[i]:
                del stage[1:]
            if flowing_stages(options)[i]:
                make_field = partial(branch_field, stage[0])
                stage.append(build_block(options, i, make_field, evaluations=blocks - 1, name=f"layer{i + 1}"))
        if options.norm == "frozen":
            freeze_norms(self)

    def ode_blocks_by_stage(self) -> list[ODEBlock | None]:
        """Return the ODE block of every stage, None for a stage without one."""
        return [find_ode_block(stage) for stage in (self.layer1, self.layer2, self.layer3)]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Switch the ODE blocks between ``gradient="checkpoint"`` and ``"backprop"``; other modes stay."""
        set_checkpointing(self, enable)


def cifar_stage(in_channels: int, channels: int, blocks: int, **factory: Any) -> nn.Sequential:
    """Build a stage of basic blocks; the first halves the size if the channels are doubled."""
    halves = in_channels != channels
    shortcut = PaddedShortcut() if halves else None
    first = BasicBlock(in_channels, channels, stride=2 if halves else 1, downsample=shortcut, **factory)
    return nn.Sequential(first, *(BasicBlock(channels, channels, **factory) for _ in range(blocks - 1)))


def checkpoint_filter_fn(weights: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Rename weights of akamaster/pytorch_resnet_cifar10 to timm's names."""
    return {name.replace("linear.", "fc."): value for name, value in weights.items()}


CFG = default_cfg(num_classes=10, input_size=(3, 32, 32), pool_size=(8, 8), crop_pct=1.0)
"""Configuration with ImageNet's mean and standard deviation, with which akamaster's weights were trained."""

default_cfgs = generate_default_cfgs(
    {f"{ode}resnet{depth}_cifar": CFG for depth in (20, 32, 44, 56, 110) for ode in ("", "ode_")}
)


def _create(variant: str, pretrained: bool, **kwargs: Any) -> CifarResNet:
    kind = ODECifarResNet if variant.startswith("ode_") else CifarResNet
    return build_model_with_cfg(kind, variant, pretrained, pretrained_filter_fn=checkpoint_filter_fn, **kwargs)


@register_model
def resnet20_cifar(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ResNet-20 for images of 32 px: 3 basic blocks in each of three stages."""
    return _create("resnet20_cifar", pretrained, **{"blocks": 3, **kwargs})


@register_model
def resnet32_cifar(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ResNet-32 for images of 32 px: 5 basic blocks in each of three stages."""
    return _create("resnet32_cifar", pretrained, **{"blocks": 5, **kwargs})


@register_model
def resnet44_cifar(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ResNet-44 for images of 32 px: 7 basic blocks in each of three stages."""
    return _create("resnet44_cifar", pretrained, **{"blocks": 7, **kwargs})


@register_model
def resnet56_cifar(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ResNet-56 for images of 32 px: 9 basic blocks in each of three stages."""
    return _create("resnet56_cifar", pretrained, **{"blocks": 9, **kwargs})


@register_model
def resnet110_cifar(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ResNet-110 for images of 32 px: 18 basic blocks in each of three stages."""
    return _create("resnet110_cifar", pretrained, **{"blocks": 18, **kwargs})


@register_model
def ode_resnet20_cifar(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ODE-ResNet-20 for images of 32 px: an ODE block for 2 identity blocks in each of three stages."""
    return _create("ode_resnet20_cifar", pretrained, **{"blocks": 3, **kwargs})


@register_model
def ode_resnet32_cifar(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ODE-ResNet-32 for images of 32 px: an ODE block for 4 identity blocks in each of three stages."""
    return _create("ode_resnet32_cifar", pretrained, **{"blocks": 5, **kwargs})


@register_model
def ode_resnet44_cifar(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ODE-ResNet-44 for images of 32 px: an ODE block for 6 identity blocks in each of three stages."""
    return _create("ode_resnet44_cifar", pretrained, **{"blocks": 7, **kwargs})


@register_model
def ode_resnet56_cifar(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ODE-ResNet-56 for images of 32 px: an ODE block for 8 identity blocks in each of three stages."""
    return _create("ode_resnet56_cifar", pretrained, **{"blocks": 9, **kwargs})


@register_model
def ode_resnet110_cifar(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ODE-ResNet-110 for images of 32 px: an ODE block for 17 identity blocks in each of three stages."""
    return _create("ode_resnet110_cifar", pretrained, **{"blocks": 18, **kwargs})
