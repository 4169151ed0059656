"""Heads of a detector on its pyramid, as in torchvision's two versions of Faster R-CNN."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import RPNHead

ASPECT_RATIOS = (0.5, 1.0, 2.0)

POOLED = 7
"""Height and width of the features of a region of interest."""


def full_precision(x: Tensor) -> Tensor:
    """Return ``x`` in at least float32: boxes [px] need more than the 8 bits of bfloat16's mantissa."""
    return x.float() if x.dtype == torch.bfloat16 or x.dtype == torch.float16 else x


class FullPrecisionRPNHead(nn.Module):
    """torchvision's RPN head with outputs in full precision, so that boxes are decoded precisely under autocast."""

    def __init__(self, head: RPNHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Predict objectness and box deltas for every level."""
        objectness, deltas = self.head(x)
        return [full_precision(o) for o in objectness], [full_precision(d) for d in deltas]


class FullPrecisionBoxPredictor(nn.Module):
    """torchvision's box predictor with outputs in full precision."""

    def __init__(self, predictor: FastRCNNPredictor) -> None:
        super().__init__()
        self.predictor = predictor

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Predict class logits ``(R, num_classes)`` and box deltas ``(R, 4 * num_classes)`` for R regions."""
        logits, deltas = self.predictor(x)
        return full_precision(logits), full_precision(deltas)


@dataclass(frozen=True)
class Heads:
    """Parts of a detector on its pyramid.

    Attributes:
        rpn: Head of the region proposal network.
        box: Head of the regions of interest, before the box predictor.
        pyramid_norm: Norm in the pyramid, if any.
    """

    rpn: RPNHead
    box: nn.Module
    pyramid_norm: Callable[..., nn.Module] | None = None


def heads_v1(channels: int, size: int) -> Heads:
    """Build the heads of torchvision's ``fasterrcnn_resnet50_fpn`` for these pyramid channels and box head width."""
    return Heads(RPNHead(channels, len(ASPECT_RATIOS)), TwoMLPHead(channels * POOLED**2, size))


def heads_v2(channels: int, size: int) -> Heads:
    """Build the heads of torchvision's ``fasterrcnn_resnet50_fpn_v2``, likewise.

    Y. Li et al.: Benchmarking Detection Transfer Learning with Vision Transformers, 2021, arXiv:2111.11429
    """
    rpn = RPNHead(channels, len(ASPECT_RATIOS), conv_depth=2)
    convolutions = [channels] * 4
    box = FastRCNNConvFCHead((channels, POOLED, POOLED), convolutions, [size], norm_layer=nn.BatchNorm2d)
    return Heads(rpn, box, nn.BatchNorm2d)


HEADS: dict[str, Callable[[int, int], Heads]] = {"v1": heads_v1, "v2": heads_v2}
"""Version of torchvision's detectors -> the function that builds its heads."""
