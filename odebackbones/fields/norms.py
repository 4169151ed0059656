"""Norms whose gain, offset and statistics depend on time."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from odebackbones.errors import unknown_name
from odebackbones.fields.affine import TimeAffine, TimeNorm
from odebackbones.fields.basis import require_reached
from odebackbones.fields.batch_norm import TimeBatchNorm2d

NormLayer = Callable[..., "TimeNorm"]
"""Factory of a time-dependent norm for given channels; fields call ``norm(conv(x, t, norm.weight_gain(t)), t)``."""


class TimeGroupNorm(TimeNorm):
    """Group normalization with a time-dependent affine map: no statistics, hence independent of grid and batch size.

    Y. Wu, K. He: Group Normalization, ECCV 2018, arXiv:1803.08494

    Shape:
        ``x: (B, C, H, W) -> (B, C, H, W)``
    """

    def __init__(self, channels: int, *, groups: int = 32, eps: float = 1e-5, **kwargs: Any) -> None:
        super().__init__(channels, **kwargs)
        self.groups = groups
        self.eps = eps

    def forward(self, x: Tensor, t: float) -> Tensor:
        """Normalize ``x`` as at time ``t``."""
        gain, offset = self.affine(t)
        return F.group_norm(x, self.groups, gain, offset, self.eps)


NORMS: dict[str, Callable[[list[float]], Callable[..., "TimeNorm"]]] = {
    "batch": lambda nodes: partial(TimeBatchNorm2d, nodes=nodes),
    "frozen": lambda nodes: partial(TimeBatchNorm2d, nodes=nodes, frozen=True),
    "group": lambda nodes: TimeGroupNorm,
    "none": lambda nodes: TimeAffine,
}
"""Norm name -> from evaluation times to the norm's constructor."""


def norm_layer(norm: str, *, nodes: list[float], bases: int, basis: str = "constant", **factory: Any) -> NormLayer:
    """Return the constructor of the norm called ``norm`` with ``bases`` gains over time, evaluated at ``nodes``.

    Further arguments are ``device`` and ``dtype``.

    Raises:
        InputError: The name is unknown, or a basis function is zero at all nodes and would never be trained.
    """
    if norm not in NORMS:
        raise unknown_name("norm", norm, NORMS)
    require_reached(basis, bases, nodes)
    return partial(NORMS[norm](nodes), bases=bases, basis=basis, **factory)
