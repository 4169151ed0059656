"""Loss of a classifier on labels."""

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import v2

from odebackbones.errors import InputError


@dataclass(frozen=True)
class LossConfig:
    """Cross-entropy, with optional label smoothing, mixup and CutMix.

    Args:
        label_smoothing: Share of a label that is spread over all classes (C. Szegedy et al.: Rethinking the Inception
            Architecture, CVPR 2016, arXiv:1512.00567, section 7).
        mixup: Alpha of mixup, which blends images and labels of a batch; 0 for none (H. Zhang et al., ICLR 2018,
            arXiv:1710.09412).
        cutmix: Alpha of CutMix, which pastes a rectangle from another image; 0 for none (S. Yun et al., ICCV 2019,
            arXiv:1905.04899). With both, each batch gets one of them at random.
    """

    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise InputError(f"loss.label_smoothing={self.label_smoothing}: expected a number from 0 to below 1")
        for name in ("mixup", "cutmix"):
            if not getattr(self, name) >= 0:  # refuses NaN, too
                raise InputError(f"loss.{name}={getattr(self, name)}: expected a number of at least 0")


def build_mix(config: LossConfig, *, num_classes: int) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None:
    """Build the blend of a batch, ``(B, C, H, W)`` and ``(B,)``, into images and class probabilities; None if off.

    The transforms are torchvision's, since timm's draws from NumPy's generator, which the run's seed does not control.
    """
    kinds = ((v2.MixUp, config.mixup), (v2.CutMix, config.cutmix))
    mixes = [kind(alpha=alpha, num_classes=num_classes) for kind, alpha in kinds if alpha]
    return v2.RandomChoice(mixes) if mixes else None


def label_loss(scores: Tensor, labels: Tensor, config: LossConfig) -> Tensor:
    """Compute the cross-entropy.

    Args:
        scores: ``(B, C)``.
        labels: Class indices ``(B,)``, or class probabilities ``(B, C)``.
        config: Label smoothing.
    """
    return F.cross_entropy(scores, labels, label_smoothing=config.label_smoothing)
