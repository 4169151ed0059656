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
    r"""A field of one 3x3 convolution, after a ReLU: :math:`f(t, x) = n(w * \mathrm{relu}(x))`.

    With the ReLU last, as in VGG, the slope could not be negative, and the state could only grow.

    Args:
        channels: Number of channels of the state and the slope.
        norm: Factory of a norm for a number of channels.
        bases: Number of weights over time.
        basis: Basis that combines the weights: a name of :data:`~odebackbones.fields.basis.BASES`.
        time_channel: Whether the convolution sees the time as a channel, too.
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
        """Return the convolution with its norm."""
        return [(self.conv1, self.norm1)]

    def forward(self, t: float, x: Tensor) -> Tensor:
        """The slope at time ``t`` and state ``x``."""
        return self.postprocess(self.norm1(self.conv1(F.relu(x), t, self.norm1.weight_gain(t)), t), t)


class DepthwiseField(TwoLayerField):
    r"""A field of a depthwise 3x3 and a 1x1 convolution: :math:`n_2(w_2 * \mathrm{relu}(n_1(w_1 * x)))`.

    A. G. Howard et al.: MobileNets, 2017, arXiv:1704.04861

    Args:
        channels: Number of channels of the state and the slope.
        norm: Factory of a norm for a number of channels.
        bases: Number of weights over time.
        basis: Basis that combines the weights: a name of :data:`~odebackbones.fields.basis.BASES`.
        time_channel: Whether the convolutions see the time as a channel, too.
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
