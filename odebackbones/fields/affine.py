"""Base of the norms: gain and offset that depend on time."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from odebackbones.fields.basis import basis_values, blend, require_basis


class TimeNorm(nn.Module):
    """The affine map of a norm, with time-dependent gain and offset that start at 1 and 0.

    Attributes:
        scale: Constant factor of gain and offset.
    """

    def __init__(
        self,
        channels: int,
        *,
        bases: int = 1,
        basis: str = "constant",
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        require_basis(basis, bases)
        self.scale = 1.0
        self.channels = channels
        self.bases = bases
        self.basis = basis
        gains = [0.0 if basis == "chebyshev" and k else 1.0 for k in range(bases)]
        full = partial(torch.full, (channels,), device=device, dtype=dtype)
        self.weight = nn.ParameterList([full(gain) for gain in gains])
        self.bias = nn.ParameterList([full(0.0) for _ in range(bases)])

    def zero_gain(self) -> None:
        """Start from the zero map, as timm's ``zero_init_last`` does for the last norm of a residual branch."""
        for weight in self.weight:
            nn.init.zeros_(weight)

    def set_times(self, times: Sequence[float]) -> None:
        """Prepare for evaluations at these times; a norm without statistics needs no preparation."""

    def keep_first(self) -> None:
        """Reduce to a norm with one gain and offset, the first, at all times."""
        self.weight, self.bias = self.weight[:1], self.bias[:1]
        self.bases, self.basis = 1, "constant"

    def tensors_at(self, t: float) -> dict[str, Tensor]:
        """Return the named tensors with which a norm of one gain and offset equals this one at time ``t``."""
        values = basis_values(self.basis, self.bases, t)
        return {f"{name}.0": blend(list(p), values) for name, p in (("weight", self.weight), ("bias", self.bias))}

    def weight_gain(self, t: float) -> Tensor | None:
        """Return the gain ``(channels,)`` at time ``t`` for the weights of the preceding convolution, or None."""
        return None

    def affine(self, t: float) -> tuple[Tensor, Tensor]:
        """Return gain and offset ``(channels,)`` at time ``t``."""
        values = basis_values(self.basis, self.bases, t)
        gain = blend(list(self.weight), values)
        offset = blend(list(self.bias), values)
        if self.scale == 1.0:  # no extra tensors
            return gain, offset
        return self.scale * gain, self.scale * offset


class TimeAffine(TimeNorm):
    """Gain and offset without normalization: as in VGG's convolutions, plus a gain that lets a field start at zero.

    The preceding convolution multiplies the gain into its weights: features scaled afterwards would be stored twice
    for the backward pass.

    Such gains are used by H. Zhang, Y. N. Dauphin, T. Ma: Fixup Initialization, ICLR 2019, arXiv:1901.09321.

    Shape:
        ``x: (B, C, H, W) -> (B, C, H, W)``
    """

    def weight_gain(self, t: float) -> Tensor | None:
        """Return a copy of the gain: a parameter as an argument would break torch's FLOP counter in inference mode."""
        return self.affine(t)[0].clone()

    def forward(self, x: Tensor, t: float) -> Tensor:
        """Add the offset at time ``t`` to ``x``, in place."""
        return x.add_(self.affine(t)[1].reshape(-1, 1, 1))
