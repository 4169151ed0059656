"""The networks of Chen et al. (2018) for MNIST and CIFAR-10: one family, from their ResNet to their ODE-Net."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from odebackbones.block import ODEBlock, find_ode_block, set_checkpointing
from odebackbones.errors import unknown_name
from odebackbones.fields.preactivated import PreactivatedField
from odebackbones.models.default_cfg import default_cfg
from odebackbones.models.pooled_head import PooledHead
from odebackbones.models.stage_options import (
    build_block,
    flowing_stages,
    pop_options,
    require_known,
    require_norm,
)

BLOCKS = 6
"""Number of residual blocks of their ResNet, which the ODE block replaces."""

GROUPS = 32
DISCRETE_NORMS = {"group": partial(nn.GroupNorm, GROUPS), "batch": nn.BatchNorm2d}
"""Our norm names -> norms of the layers that stay discrete."""


class ResidualDownsampling(nn.Module):
    """A residual block with pre-activation that halves the size.

    Shape:
        ``x: (B, channels, H, W) -> (B, channels, ceil(H / 2), ceil(W / 2))``
    """

    def __init__(self, channels: int, norm: Callable[..., nn.Module], **factory: Any) -> None:
        super().__init__()
        conv = partial(nn.Conv2d, channels, channels, bias=False, **factory)
        self.norm1, self.conv1 = norm(channels, **factory), conv(3, stride=2, padding=1)
        self.norm2, self.conv2 = norm(channels, **factory), conv(3, padding=1)
        self.shortcut = conv(1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the features at half the size."""
        x = F.relu(self.norm1(x), inplace=True)
        return self.shortcut(x) + self.conv2(F.relu(self.norm2(self.conv1(x)), inplace=True))


class ConvDownsampling(nn.Sequential):
    """Norm, ReLU and one convolution that halves the size.

    Shape:
        ``x: (B, channels, H, W) -> (B, channels, H // 2, W // 2)``
    """

    def __init__(self, channels: int, norm: Callable[..., nn.Module], **factory: Any) -> None:
        super().__init__()
        self.norm, self.act = norm(channels, **factory), nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(channels, channels, 4, stride=2, padding=1, **factory)


DOWNSAMPLING = {"res": ResidualDownsampling, "conv": ConvDownsampling}
"""Name, as in torchdiffeq's example -> layer that halves the size."""


class ODENet(PooledHead):
    """Two layers that halve the size, an ODE block at stride 4, and a classifier.

    The paper's networks (table 1; code: torchdiffeq's examples/odenet_mnist.py, ``--downsampling-method res``) are:

    - ResNet: ``solver="euler", steps=6, bases=6, duration=6.0, time_channel=False, last_norm=False``;
    - RK-Net: ``solver="rk4", gradient="backprop"``;
    - ODE-Net: ``solver="dopri5", gradient="adjoint"``, whose gradient comes from a separate solve; our default,
      ``"checkpoint"``, gives the exact gradient in as little memory.

    Unlike in the paper, the first convolution is padded, so that each size is half the previous one.

    Args:
        num_classes: Number of classes.
        in_chans: Number of channels of the images.
        channels: Number of channels of all features, a multiple of 32 with ``norm="group"``.
        global_pool: timm's pooling before the classifier.
        drop_rate: Dropout before the classifier.
        last_norm: Whether the field ends with a norm.
        downsampling: Layer that halves the size: ``res``, a residual block, or ``conv``, a convolution, which leaves
            more of the work to the ODE block.
        device: Device of the parameters.
        dtype: Data type of the parameters.
        **kwargs: Options of :class:`~odebackbones.models.stage_options.StageOptions` (``solver``, ``steps``, ...). By
            default ``solver="rk4", norm="group", time_channel=True, zero_init_last=False``, and at least 6 evaluations.

    Shape:
        ``(B, in_chans, H, W) -> (B, num_classes)``; features at strides 1, 2 and 4.

    R. T. Q. Chen, Y. Rubanova, J. Bettencourt, D. Duvenaud: Neural Ordinary Differential Equations, NeurIPS 2018,
    arXiv:1806.07366, section 3
    """

    def __init__(
        self,
        *,
        num_classes: int = 10,
        in_chans: int = 3,
        channels: int = 64,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        last_norm: bool = True,
        downsampling: str = "res",
        device: Any = None,
        dtype: torch.dtype | None = None,
        **kwargs: Any,
    ) -> None:
        require_known(kwargs, ODENet)
        if downsampling not in DOWNSAMPLING:
            raise unknown_name("downsampling", downsampling, DOWNSAMPLING)
        defaults = {"solver": "rk4", "norm": "group", "time_channel": True, "zero_init_last": False}
        options = pop_options({**defaults, **kwargs, "device": device, "dtype": dtype}, stages=1)
        require_norm(options.norm, DISCRETE_NORMS)
        norm, factory = DISCRETE_NORMS[options.norm], options.factory_args
        super().__init__(channels, in_chans=in_chans, drop_rate=drop_rate)
        self.conv1 = nn.Conv2d(in_chans, channels, 3, padding=1, **factory)
        self.down1 = DOWNSAMPLING[downsampling](channels, norm, **factory)
        self.down2 = DOWNSAMPLING[downsampling](channels, norm, **factory)
        self.flow = nn.Sequential()
        if flowing_stages(options)[0]:
            make_field = partial(field_of, channels, last_norm=last_norm)
            self.flow.append(build_block(options, 0, make_field, evaluations=BLOCKS, name="flow"))
        self.norm = norm(channels, **factory)
        self.act = nn.ReLU(inplace=True)
        self.feature_info = [
            {"num_chs": channels, "reduction": reduction, "module": name}
            for name, reduction in (("conv1", 1), ("down1", 2), ("act", 4))
        ]
        self.reset_classifier(num_classes, global_pool)

    def ode_blocks_by_stage(self) -> list[ODEBlock | None]:
        """Return the ODE block, or None, of the one stage."""
        return [find_ode_block(self.flow.children())]

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return timm's groups of parameters."""
        return {"stem": r"^conv1", "blocks": [(r"^down(\d)", None), (r"^flow|^norm", (3,))]}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Switch the ODE block between ``gradient="checkpoint"`` and ``"backprop"``; other modes stay."""
        set_checkpointing(self, enable)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return, as in timm, the features at strides 1, 2 and 4 that ``indices`` names, alone or after the last."""
        assert output_fmt == "NCHW", "Output shape must be NCHW."
        wanted, last = feature_take_indices(len(self.feature_info), indices)
        stages = [self.conv1, self.down1, nn.Sequential(self.down2, self.flow, self.norm, self.act)]
        found = []
        for i, stage in enumerate(stages[: last + 1] if stop_early else stages):
            x = stage(x)
            if i in wanted:
                found.append(x)
        return found if intermediates_only else (x, found)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove, as in timm, the layers after the last of the features that ``indices`` names."""
        wanted, last = feature_take_indices(len(self.feature_info), indices)
        unused = ["down1"] * (last < 1) + ["down2", "flow", "norm", "act"] * (last < 2)
        for name in unused:
            setattr(self, name, nn.Identity())
        if prune_head:
            self.reset_classifier(0, "")
        return wanted

    def forward_features(self, x: Tensor) -> Tensor:
        """Compute the features: ``(B, in_chans, H, W) -> (B, channels, H / 4, W / 4)``."""
        x = self.flow(self.down2(self.down1(self.conv1(x))))
        return self.act(self.norm(x))


def field_of(channels: int, *, extra: int, **kwargs: Any) -> PreactivatedField:
    """Build the field of a state with ``extra`` additional channels."""
    return PreactivatedField(channels + extra, **kwargs)


SMALL = {"num_classes": 10, "crop_pct": 1.0}
MNIST = {"input_size": (1, 28, 28), "pool_size": (7, 7), "mean": (0.1307,), "std": (0.3081,)}
CIFAR = {
    "input_size": (3, 32, 32),
    "pool_size": (8, 8),
    "mean": (0.4914, 0.4822, 0.4465),
    "std": (0.2470, 0.2435, 0.2616),
}

default_cfgs = generate_default_cfgs(
    {"odenet_mnist": default_cfg(**SMALL, **MNIST), "odenet_cifar": default_cfg(**SMALL, **CIFAR)}
)


def _create(variant: str, pretrained: bool, **kwargs: Any) -> ODENet:
    out_indices = kwargs.pop("out_indices", (0, 1, 2))
    return build_model_with_cfg(ODENet, variant, pretrained, feature_cfg={"out_indices": out_indices}, **kwargs)


@register_model
def odenet_mnist(pretrained: bool = False, **kwargs: Any) -> ODENet:
    """Chen et al.'s network for MNIST."""
    return _create("odenet_mnist", pretrained, **{"in_chans": 1, **kwargs})


@register_model
def odenet_cifar(pretrained: bool = False, **kwargs: Any) -> ODENet:
    """Chen et al.'s network with three input channels, for CIFAR-10."""
    return _create("odenet_cifar", pretrained, **kwargs)
