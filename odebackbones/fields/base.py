"""What the fields have in common."""

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from odebackbones.fields.affine import TimeNorm
from odebackbones.fields.attention import NoAttention, TimeSqueezeExcite
from odebackbones.fields.compiled import CompiledField
from odebackbones.fields.conv import TimeConv2d


def factory_of(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the arguments that all layers take: ``device`` and ``dtype``."""
    return {name: arguments[name] for name in ("device", "dtype") if name in arguments}


def path_dropping(rate: float) -> nn.Module:
    """timm's layer that drops images' slopes."""
    from timm.layers import DropPath  # the engine and the fields alone don't take timm's time

    return DropPath(rate)


class TimeField(nn.Module):
    """A field whose layers depend on time."""

    def compile(self, **kwargs: Any) -> None:
        """As ``nn.Module.compile``, but one graph serves all times."""
        self._compiled_call_impl = CompiledField(self, **kwargs)


class ConvolutionalField(TimeField):
    """What the fields have in common: convolutions, each with its norm; then attention and drop path.

    Args:
        channels: Of state and slope.
        bases: Weights over time.
        basis: How they are combined: a name of :data:`~odebackbones.fields.basis.BASES`.
        attention: Channels of the squeezed slope, for channel attention; None for no attention.
        drop_path: In training, the probability that an image's slope is dropped, drawn at every evaluation.
        **factory: ``device`` and ``dtype``.
    """

    is_preactivated = False
    """Whether a ReLU comes before the first convolution, too."""

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
        """The convolutions with their norms; a ReLU stands between two."""
        raise NotImplementedError

    def start_at_zero(self) -> None:
        """Start from the zero field, whose flow is the identity, as timm's ``zero_init_last``."""
        self.layers()[-1][1].zero_gain()

    def set_duration(self, duration: float) -> None:
        """Let the flow last as long: the slope is multiplied by it, in the last norm."""
        self.layers()[-1][1].scale = duration
        if isinstance(self.se, TimeSqueezeExcite):
            self.se.scale = duration

    @property
    def duration(self) -> float:
        """How long the flow lasts."""
        return self.layers()[-1][1].scale

    def postprocess(self, slope: Tensor, t: float) -> Tensor:
        """The slope after attention and drop path."""
        return self.drop_path(self.se(slope, t))


class TwoLayerField(ConvolutionalField):
    r"""Two convolutions: :math:`f(t, x) = n_2(w_2 * \mathrm{relu}(n_1(w_1 * x)))`.

    Args:
        convolutions: The two.
        norms: Theirs.
        channels: Of state and slope.
        **kwargs: Those of :class:`ConvolutionalField`.
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
        """The convolutions with their norms; a ReLU stands between the two."""
        return [(self.conv1, self.norm1), (self.conv2, self.norm2)]

    def forward(self, t: float, x: Tensor) -> Tensor:
        """The slope at time ``t`` and state ``x``."""
        x = F.relu(self.norm1(self.conv1(x, t, self.norm1.weight_gain(t)), t), inplace=True)
        return self.postprocess(self.norm2(self.conv2(x, t, self.norm2.weight_gain(t)), t), t)
