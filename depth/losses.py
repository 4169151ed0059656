r"""Losses of depth maps, over the pixels with a measured depth.

Here :math:`p` is the prediction, :math:`g` the truth [m], and :math:`d = \ln p - \ln g`, all at least in float32.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from odebackbones.errors import InputError

VARIANCE_FOCUS = 0.85
"""SILog's lambda, as in BTS and AdaBins; Eigen's is 0.5, and 1 makes the loss fully scale-invariant."""

SILOG_SCALE = 10.0
"""BTS's factor of SILog, which brings the loss to the order of 1."""

GRADIENT_SCALES = 4
"""Number of scales of the gradient matching: every pixel, every second, every fourth and every eighth."""

EPSILON = 1e-6
"""Term under the root, whose slope is infinite at 0, and lower bound of logarithms' arguments and divisors."""


def silog(prediction: Tensor, truth: Tensor, image: Tensor) -> Tensor:
    r"""Return the SILog error :math:`10 \sqrt{\overline{d^2} - 0.85\, \overline{d}^2}` over all pixels of the batch.

    Scale-invariant log error: D. Eigen et al., NeurIPS 2014, arXiv:1406.2283; the root and the constants are from J. H.
    Lee et al.: From Big to Small (BTS), 2019, arXiv:1907.10326

    Args:
        prediction: ``(B, 1, H, W)`` [m], above 0.
        truth: ``(B, 1, H, W)`` [m], 0 where nothing was measured.
        image: ``(B, 3, H, W)``; not used.
    """
    valid = truth > 0
    d = prediction[valid].log() - truth[valid].log()
    return SILOG_SCALE * (d.square().mean() - VARIANCE_FOCUS * d.mean().square()).clamp(min=0).add(EPSILON).sqrt()


def l1(prediction: Tensor, truth: Tensor, image: Tensor) -> Tensor:
    r"""Return the mean absolute error :math:`\overline{|p - g|}` [m]."""
    valid = truth > 0
    return (prediction[valid] - truth[valid]).abs().mean()


def berhu(prediction: Tensor, truth: Tensor, image: Tensor) -> Tensor:
    r"""Return the reverse Huber loss [m]: :math:`|x|` up to :math:`c = 0.2 \max |x|`, :math:`(x^2 + c^2) / 2c` above.

    I. Laina et al.: Deeper Depth Prediction with Fully Convolutional Residual Networks, 3DV 2016, arXiv:1606.00373
    """
    valid = truth > 0
    x = (prediction[valid] - truth[valid]).abs()
    c = (0.2 * x.detach().max()).clamp(min=EPSILON)
    return torch.where(x <= c, x, (x.square() + c.square()) / (2 * c)).mean()


def gradient_matching(prediction: Tensor, truth: Tensor, image: Tensor) -> Tensor:
    r"""Return the mean of :math:`|\partial_x d| + |\partial_y d|` at several scales, where both pixels were measured.

    The loss does not depend on the depth's scale, as d is logarithmic.

    Z. Li, N. Snavely: MegaDepth, CVPR 2018, arXiv:1804.00607, equation 3
    """
    valid = truth > 0
    d = torch.where(valid, prediction.log() - truth.clamp(min=EPSILON).log(), 0.0)
    total = d.new_zeros(())
    for scale in range(GRADIENT_SCALES):
        step = 2**scale
        total = total + mean_difference(d[..., ::step, ::step], valid[..., ::step, ::step])
    return total / GRADIENT_SCALES


def mean_difference(values: Tensor, valid: Tensor) -> Tensor:
    """Sum the mean absolute differences between valid pixels of adjacent rows and of adjacent columns; 0 if none."""
    total = values.new_zeros(())
    for axis in (-2, -1):
        length = values.shape[axis] - 1
        if length < 1:
            continue
        both = valid.narrow(axis, 0, length) & valid.narrow(axis, 1, length)
        total = total + (values.diff(dim=axis).abs() * both).sum() / both.sum().clamp(min=1)
    return total


def smoothness(prediction: Tensor, truth: Tensor, image: Tensor) -> Tensor:
    r"""Return the mean of :math:`|\partial p^*| e^{-|\partial I|}`, p* being the disparity 1/p divided by its mean.

    Edge-aware smoothness is from C. Godard et al.: Unsupervised Monocular Depth Estimation with Left-Right Consistency,
    CVPR 2017, arXiv:1609.03677; the division by the mean is from Digging Into Self-Supervised Monocular Depth
    Estimation, ICCV 2019, arXiv:1806.01260

    Args:
        prediction: ``(B, 1, H, W)`` [m].
        truth: Not used: the loss also covers pixels where nothing was measured.
        image: ``(B, 3, H, W)`` in [0, 1].
    """
    disparity = 1 / prediction
    disparity = disparity / disparity.mean(dim=(2, 3), keepdim=True)
    parts = [
        (disparity.diff(dim=axis).abs() * torch.exp(-image.diff(dim=axis).abs().mean(1, keepdim=True))).mean()
        for axis in (-2, -1)
    ]
    return parts[0] + parts[1]


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "silog": silog,
    "berhu": berhu,
    "l1": l1,
    "gradient": gradient_matching,
    "smoothness": smoothness,
}


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses, which are added up; 0 leaves a loss out.

    Args:
        silog: Weight of the scale-invariant log error with BTS's lambda 0.85 and factor 10.
        berhu: Weight of the reverse Huber loss [1/m].
        l1: Weight of the mean absolute error [1/m].
        gradient: Weight of the gradient matching of log depths at four scales.
        smoothness: Weight of the edge-aware smoothness.
    """

    silog: float = 1.0
    berhu: float = 0.0
    l1: float = 0.0
    gradient: float = 0.0
    smoothness: float = 0.0

    def __post_init__(self) -> None:
        for name in LOSSES:
            if getattr(self, name) < 0:
                raise InputError(f"loss.{name}={getattr(self, name)}: expected a weight of at least 0")
        if not any(getattr(self, name) for name in LOSSES):
            raise InputError("loss: all weights are 0; give one, such as loss.silog=1")


def weighted_losses(config: LossConfig, prediction: Tensor, truth: Tensor, image: Tensor) -> dict[str, Tensor]:
    """Return the weighted losses whose weight is not 0: ``loss_NAME`` -> loss.

    For a batch without a measured pixel, the losses and their gradients are 0.

    Args:
        config: The weights.
        prediction: ``(B, 1, H, W)`` [m].
        truth: ``(B, 1, H, W)`` [m], 0 where nothing was measured.
        image: ``(B, 3, H, W)`` in [0, 1].
    """
    prediction = prediction.float()
    used = {name: getattr(config, name) for name in LOSSES if getattr(config, name)}
    if not (truth > 0).any():
        return {f"loss_{name}": 0 * prediction.sum() for name in used}
    with torch.autocast(prediction.device.type, enabled=False):
        return {f"loss_{name}": weight * LOSSES[name](prediction, truth, image) for name, weight in used.items()}
