"""Vector fields for networks without residual blocks, such as VGG."""

from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from odebackbones.fields.affine import TimeNorm
from odebackbones.fields.base import ConvolutionalField, TwoLayerField, factory_of
from odebackbones.fields.conv import TimeConv2d
from odebackbones.fields.norms import NormLayer


class ConvField(ConvolutionalField):
    r"""One convolution, 3x3, after the ReLU: :math:`f(t, x) = n(w * \mathrm{relu}(x))`.

    After it, as VGG has it, the slope could not be negative, and the state only grow.

    Args:
        channels: Of state and slope.
        norm: Makes a norm for a number of channels.
        bases: Weights over time.
        basis: How they are combined: a name of :data:`~odebackbones.fields.basis.BASES`.
        time_channel: Whether the convolution sees the time, too.
        **kwargs: ``attention``, ``drop_path``, ``device`` and ``dtype`` of
            :class:`~odebackbones.fields.base.ConvolutionalField`.

    Shape:
        ``t`` in [0, 1], ``x: (B, channels, H, W) -> (B, channels, H, W)``
    """

    is_preactivated = True

    def __init__(
        self,
        channels: int,
        *,
        norm: NormLayer,
        bases: int = 1,
        basis: str = "constant",
        time_channel: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(channels, bases=bases, basis=basis, **kwargs)
        weights = {"bases": bases, "basis": basis, "time_channel": time_channel, **factory_of(kwargs)}
        self.conv1 = TimeConv2d(channels, channels, kernel_size=3, **weights)
        self.norm1 = norm(channels)

    def layers(self) -> list[tuple[TimeConv2d, TimeNorm]]:
        """The convolution with its norm."""
        return [(self.conv1, self.norm1)]

    def forward(self, t: float, x: Tensor) -> Tensor:
        """The slope at time ``t`` and state ``x``."""
        return self.postprocess(self.norm1(self.conv1(F.relu(x), t, self.norm1.weight_gain(t)), t), t)


class DepthwiseField(TwoLayerField):
    r"""A 3x3 convolution of every channel by itself, then a 1x1 of all: :math:`n_2(w_2 * \mathrm{relu}(n_1(w_1 * x)))`.

    A. G. Howard et al.: MobileNets, 2017, arXiv:1704.04861

    Args:
        channels: Of state and slope.
        norm: Makes a norm for a number of channels.
        bases: Weights over time.
        basis: How they are combined: a name of :data:`~odebackbones.fields.basis.BASES`.
        time_channel: Whether the convolutions see the time, too.
        **kwargs: ``attention``, ``drop_path``, ``device`` and ``dtype`` of
            :class:`~odebackbones.fields.base.ConvolutionalField`.

    Shape:
        ``t`` in [0, 1], ``x: (B, channels, H, W) -> (B, channels, H, W)``
    """

    def __init__(
        self,
        channels: int,
        *,
        norm: NormLayer,
        bases: int = 1,
        basis: str = "constant",
        time_channel: bool = False,
        **kwargs: Any,
    ) -> None:
        weights = {"bases": bases, "basis": basis, "time_channel": time_channel, **factory_of(kwargs)}
        conv = partial(TimeConv2d, channels, channels, **weights)
        convolutions = conv(kernel_size=3, groups=channels), conv(kernel_size=1)
        norms = norm(channels), norm(channels)
        super().__init__(convolutions, norms, channels=channels, bases=bases, basis=basis, **kwargs)
