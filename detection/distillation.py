"""Distillation of a detector: toward a trained detector's features, and the maps of its region proposal network."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.config import DistillationConfig
from engine.runs.distillation import feature_error, require_equal_features
from engine.training.features import features
from odebackbones.errors import InputError

TRANSFORM, BODY, RPN = "transform", "backbone.body", "rpn.head"
"""Modules of a detector whose outputs are the transformed images, the features, and the maps."""


class DetectorDistillation:
    r"""Losses of a detector that learns from another one with the same anchors.

    With the teacher's objectness :math:`p_t` of every anchor and its box deltas, the loss toward its maps is the
    Kullback-Leibler divergence of the objectness, and the L1 error of the deltas, weighted by :math:`p_t`.

    G. Chen, W. Choi, X. Yu, T. Han, M. Chandraker: Learning Efficient Object Detection Models with Knowledge
    Distillation, NeurIPS 2017

    Args:
        config: Weights of the losses.
        teacher: The trained detector.
    """

    def __init__(self, config: DistillationConfig, teacher: nn.Module) -> None:
        self.config: DistillationConfig = config
        self.teacher: Any = teacher

    def require_compatible(self, student: Any) -> None:
        """Refuse a teacher with other features, normalization or anchors than the student's.

        Raises:
            InputError: Says which differ.
        """
        settings = [
            {
                "mean and std": (tuple(m.transform.image_mean), tuple(m.transform.image_std)),
                "anchors": m.rpn.anchor_generator.sizes,
            }
            for m in (student, self.teacher)
        ]
        for name, own in settings[0].items():
            if own != settings[1][name]:
                raise InputError(
                    f"distillation.teacher has {name} {settings[1][name]}, the student {own}: make them equal"
                )
        if self.config.feature_weight:
            self.teacher = self.teacher.to(next(student.parameters()).device)
            require_equal_features(student, self.teacher, lambda model, images: model.get_submodule(BODY)(images))

    def losses(self, student: nn.Module, compute: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Return the detector's own losses, and those of distillation.

        Args:
            student: The student itself, not its replica in distributed training.
            compute: Forward pass that returns the student's own losses.
        """
        found: dict[str, Any]
        with features(student, [TRANSFORM, BODY, RPN]) as found:
            losses = dict(compute())
        images = found[TRANSFORM][0].tensors
        self.teacher = self.teacher.to(images.device)
        with torch.no_grad():
            wanted = self.teacher.get_submodule(BODY)(images)
            levels = {str(i): level for i, level in enumerate(wanted)}
            pyramid = self.teacher.get_submodule("backbone.fpn")(levels)
            maps = self.teacher.get_submodule(RPN)(list(pyramid.values()))
        if self.config.feature_weight:
            losses["loss_features"] = self.config.feature_weight * feature_error(found[BODY], wanted)
        if self.config.map_weight:
            losses["loss_maps"] = self.config.map_weight * map_loss(found[RPN], maps)
        return losses


def map_loss(student: Any, teacher: Any) -> Tensor:
    """Return the loss toward the teacher's objectness and box deltas, averaged over all anchors of all levels."""
    (scores, deltas), (wanted_scores, wanted_deltas) = student, teacher
    objectness = torch.cat([x.flatten() for x in scores]).float()
    wanted = torch.cat([x.flatten() for x in wanted_scores]).float().sigmoid()
    loss = F.binary_cross_entropy_with_logits(objectness, wanted) - entropy(wanted)
    errors = [
        (found - target).abs().float().unflatten(1, (-1, 4)).sum(2).flatten()
        for found, target in zip(deltas, wanted_deltas, strict=True)
    ]
    return loss + (torch.cat(errors) * wanted).sum() / wanted.sum().clamp(min=1.0)


def entropy(probability: Tensor) -> Tensor:
    """Return the mean entropy, the least value of the cross-entropy."""
    return (torch.special.entr(probability) + torch.special.entr(1 - probability)).mean()
