"""Distillation of a depth model: toward a trained model's features and its depth of every pixel."""

from typing import Any

import torch
from torch import Tensor, nn

from engine.config import DistillationConfig
from engine.runs.distillation import feature_error, require_equal_features
from engine.training.features import features

BODY = "body"
"""Name of the backbone in a depth model."""


class DepthDistillation:
    r"""Losses of a depth model that learns from another one: relative errors of features, and :math:`|\ln p - \ln q|`,
    with the student's depth p and the teacher's q.

    Args:
        config: Weights of the losses.
        teacher: The trained model.
    """

    def __init__(self, config: DistillationConfig, teacher: nn.Module) -> None:
        self.config, self.teacher = config, teacher

    def require_compatible(self, student: nn.Module) -> None:
        """Refuse a teacher with other features than the student's.

        Raises:
            InputError: Names the shapes.
        """
        if self.config.feature_weight:
            self.teacher = self.teacher.to(next(student.parameters()).device)
            require_equal_features(student, self.teacher, lambda model, images: model.get_submodule(BODY)(images))

    def losses(self, model: nn.Module, student: nn.Module, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the student's depth ``(B, 1, H, W)`` [m] and the losses of distillation.

        Args:
            model: Model to call: the student, or its replica in distributed training.
            student: The student itself.
            images: ``(B, 3, H, W)`` in [0, 1].
        """
        with features(student, [BODY]) as found:
            depth = model(images)
        self.teacher = self.teacher.to(images.device)
        with torch.no_grad(), features(self.teacher, [BODY]) as wanted:
            target = self.teacher(images)
        levels: list[Any] = [found[BODY], wanted[BODY]]
        losses = {}
        if self.config.feature_weight:
            losses["loss_features"] = self.config.feature_weight * feature_error(*levels)
        if self.config.map_weight:
            losses["loss_maps"] = self.config.map_weight * (depth.log() - target.log()).abs().mean()
        return depth, losses
