r"""Vector fields: the residual branches of a ResNet with weights :math:`\theta(t)`, as functions of time and state.

:math:`\theta(t) = \sum_k \varphi_k(t)\,\theta_k` with K functions of time, by default indicators of equal parts of
[0, 1]. K = 1 is the ODE-Net of Chen et al. (2018); K = N with N Euler steps is a ResNet.

A. F. Queiruga, N. B. Erichson, L. Hodgkinson, M. W. Mahoney: Stateful ODE-Nets using Basis Function Expansions,
NeurIPS 2021, arXiv:2106.10820
"""

from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from odebackbones.fields.affine import TimeNorm
from odebackbones.fields.base import ConvolutionalField, TwoLayerField, factory_of
from odebackbones.fields.conv import TimeConv2d
from odebackbones.fields.norms import NormLayer


class BasicField(TwoLayerField):
    r"""The branch of a basic residual block: :math:`f(t, x) = n_2(w_2 * \mathrm{relu}(n_1(w_1 * x)))`, 3x3 kernels.

    K. He, X. Zhang, S. Ren, J. Sun: Deep Residual Learning for Image Recognition, CVPR 2016, arXiv:1512.03385

    Args:
        channels: Number of channels of the state and the slope.
        width: Number of channels between the convolutions.
        norm: Factory of a norm for a number of channels.
        bases: Number of weights over time.
        basis: Basis that combines the weights: a name of :data:`~odebackbones.fields.basis.BASES`.
        dilation: Dilation of the convolutions.
        time_channel: Whether the convolutions see the time as a channel, too.
        **kwargs: ``attention``, ``drop_path``, ``device`` and ``dtype`` of :class:`ConvolutionalField`.

    Shape:
        ``t`` in [0, 1], ``x: (B, channels, H, W) -> (B, channels, H, W)``
    """

    def __init__(
        self,
        channels: int,
        *,
        width: int,
        norm: NormLayer,
        bases: int = 1,
        basis: str = "constant",
        dilation: int = 1,
        time_channel: bool = False,
        **kwargs: Any,
    ) -> None:
        weights = {"bases": bases, "basis": basis, "time_channel": time_channel, **factory_of(kwargs)}
        conv = partial(TimeConv2d, kernel_size=3, dilation=dilation, **weights)
        convolutions = conv(channels, width), conv(width, channels)
        norms = norm(width), norm(channels)
        super().__init__(convolutions, norms, channels=channels, bases=bases, basis=basis, **kwargs)


class BottleneckField(ConvolutionalField):
    r"""The branch of a bottleneck residual block: 1x1 to ``width``, 3x3, 1x1 back, each with its norm.

    K. He, X. Zhang, S. Ren, J. Sun: Deep Residual Learning for Image Recognition, CVPR 2016, arXiv:1512.03385

    Args:
        channels: Number of channels of the state and the slope.
        width: Number of channels of the 3x3 convolution.
        norm: Factory of a norm for a number of channels.
        bases: Number of weights over time.
        basis: Basis that combines the weights: a name of :data:`~odebackbones.fields.basis.BASES`.
        groups: Number of groups of the 3x3 convolution.
        dilation: Dilation of the 3x3 convolution.
        time_channel: Whether the convolutions see the time as a channel, too.
        **kwargs: ``attention``, ``drop_path``, ``device`` and ``dtype`` of :class:`ConvolutionalField`.

    Shape:
        ``t`` in [0, 1], ``x: (B, channels, H, W) -> (B, channels, H, W)``
    """

    def __init__(
        self,
        channels: int,
        *,
        width: int,
        norm: NormLayer,
        bases: int = 1,
        basis: str = "constant",
        groups: int = 1,
        dilation: int = 1,
        time_channel: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(channels, bases=bases, basis=basis, **kwargs)
        weights = {"bases": bases, "basis": basis, "time_channel": time_channel, **factory_of(kwargs)}
        conv = partial(TimeConv2d, **weights)
        self.conv1 = conv(channels, width, kernel_size=1)
        self.norm1 = norm(width)
        self.conv2 = conv(width, width, kernel_size=3, groups=groups, dilation=dilation)
        self.norm2 = norm(width)
        self.conv3 = conv(width, channels, kernel_size=1)
        self.norm3 = norm(channels)

    def layers(self) -> list[tuple[TimeConv2d, TimeNorm]]:
        """Return the convolutions with their norms; a ReLU separates successive pairs."""
        return [(self.conv1, self.norm1), (self.conv2, self.norm2), (self.conv3, self.norm3)]

    def forward(self, t: float, x: Tensor) -> Tensor:
        """The slope at time ``t`` and state ``x``."""
        x = F.relu(self.norm1(self.conv1(x, t, self.norm1.weight_gain(t)), t), inplace=True)
        x = F.relu(self.norm2(self.conv2(x, t, self.norm2.weight_gain(t)), t), inplace=True)
        return self.postprocess(self.norm3(self.conv3(x, t, self.norm3.weight_gain(t)), t), t)
