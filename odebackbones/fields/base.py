"""Base classes of the fields."""

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from odebackbones.fields.affine import TimeNorm
from odebackbones.fields.attention import NoAttention, TimeSqueezeExcite
from odebackbones.fields.compiled import CompiledField
from odebackbones.fields.conv import TimeConv2d


def factory_of(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Select the arguments that all layers take: ``device`` and ``dtype``."""
    return {name: arguments[name] for name in ("device", "dtype") if name in arguments}


def path_dropping(rate: float) -> nn.Module:
    """Build timm's layer that drops the slopes of random images."""
    from timm.layers import DropPath  # a late import: the solvers and fields alone don't wait for timm

    return DropPath(rate)


class TimeField(nn.Module):
    """A field whose layers depend on time."""

    def compile(self, **kwargs: Any) -> None:
        """Compile as ``nn.Module.compile`` does, but with one graph for all times."""
        self._compiled_call_impl = CompiledField(self, **kwargs)


class ConvolutionalField(TimeField):
    """A field of convolutions, each with its norm, followed by attention and drop path.

    Args:
        channels: Number of channels of the state and the slope.
        bases: Number of weights over time.
        basis: Basis that combines the weights: a name of :data:`~odebackbones.fields.basis.BASES`.
        attention: Number of channels of the squeezed slope in channel attention; None for no attention.
        drop_path: Probability that an image's slope is dropped in training, drawn at every evaluation.
        **factory: ``device`` and ``dtype``.
    """

    is_preactivated = False
    """Whether a ReLU also precedes the first convolution."""

    def __init__(
        self,
        channels: int,
        *,
        bases: int,
        basis: str,
        attention: int | None = None,
        drop_path: float = 0.0,
        **factory: Any,
    ) -> None:
        super().__init__()
        weights = {"bases": bases, "basis": basis, **factory}
        self.se = NoAttention() if attention is None else TimeSqueezeExcite(channels, attention, **weights)
        self.drop_path = path_dropping(drop_path) if drop_path else nn.Identity()

    def layers(self) -> list[tuple[TimeConv2d, TimeNorm]]:
        """Return the convolutions with their norms; a ReLU separates successive pairs."""
        raise NotImplementedError

    def start_at_zero(self) -> None:
        """Start from the zero field, whose flow is the identity, like timm's ``zero_init_last``."""
        self.layers()[-1][1].zero_gain()

    def set_duration(self, duration: float) -> None:
        """Set the integration time, by which the last norm multiplies the slope."""
        self.layers()[-1][1].scale = duration
        if isinstance(self.se, TimeSqueezeExcite):
            self.se.scale = duration

    @property
    def duration(self) -> float:
        """The integration time."""
        return self.layers()[-1][1].scale

    def postprocess(self, slope: Tensor, t: float) -> Tensor:
        """Apply attention and drop path to the slope."""
        return self.drop_path(self.se(slope, t))


class TwoLayerField(ConvolutionalField):
    r"""A field of two convolutions: :math:`f(t, x) = n_2(w_2 * \mathrm{relu}(n_1(w_1 * x)))`.

    Args:
        convolutions: The two convolutions.
        norms: The norms of the two convolutions.
        channels: Number of channels of the state and the slope.
        **kwargs: Keyword arguments of :class:`ConvolutionalField`.
    """

    def __init__(
        self,
        convolutions: tuple[TimeConv2d, TimeConv2d],
        norms: tuple[TimeNorm, TimeNorm],
        *,
        channels: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(channels, **kwargs)
        (self.conv1, self.conv2), (self.norm1, self.norm2) = convolutions, norms

    def layers(self) -> list[tuple[TimeConv2d, TimeNorm]]:
        """Return the two convolutions with their norms; a ReLU separates them."""
        return [(self.conv1, self.norm1), (self.conv2, self.norm2)]

    def forward(self, t: float, x: Tensor) -> Tensor:
        """The slope at time ``t`` and state ``x``."""
        x = F.relu(self.norm1(self.conv1(x, t, self.norm1.weight_gain(t)), t), inplace=True)
        return self.postprocess(self.norm2(self.conv2(x, t, self.norm2.weight_gain(t)), t), t)
