"""Training towards a trained teacher: its softened scores, and its features."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from odebackbones import fuse
from odebackbones.classification.model import ModelConfig, build_classifier
from odebackbones.errors import InputError


@dataclass(frozen=True)
class DistillationConfig:
    """What is learnt from a teacher.

    Args:
        teacher: The trained network; null for no distillation.
        temperature: T, that of the softened scores.
        weight: Of the teacher's scores; those of the labels have the rest of 1.
        feature_weight: Of the features' error.
    """

    teacher: ModelConfig | None = None
    temperature: float = 4.0
    weight: float = 0.9
    feature_weight: float = 1.0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise InputError(f"distillation.temperature={self.temperature}: expected a positive number")
        if not 0 <= self.weight <= 1:
            raise InputError(f"distillation.weight={self.weight}: expected a number from 0 to 1")
        if self.feature_weight < 0:
            raise InputError(f"distillation.feature_weight={self.feature_weight}: expected a number of at least 0")


class Distillation:
    r"""The losses of a student beside its teacher:

    :math:`(1 - w) \mathrm{CE} + w T^2 \mathrm{KL}(\sigma(z_t / T) \| \sigma(z_s / T)) + w_f \sum_i
    \|h_{s,i} - h_{t,i}\|^2 / \|h_{t,i}\|^2`, over the last features i of every stride in timm's ``feature_info``.

    G. Hinton, O. Vinyals, J. Dean: Distilling the Knowledge in a Neural Network, 2015, arXiv:1503.02531;
    A. Romero et al.: FitNets: Hints for Thin Deep Nets, ICLR 2015, arXiv:1412.6550

    Args:
        config: Teacher and weights.
        student: A network with the same input.
        num_classes: Classes.

    Raises:
        InputError: The teacher has other inputs, or features are compared and it has others.
    """

    def __init__(self, config: DistillationConfig, student: nn.Module, *, num_classes: int) -> None:
        assert config.teacher is not None
        teacher = build_classifier(config.teacher, setting="distillation.teacher", num_classes=num_classes)
        own, wanted = (normalisation(model) for model in (student, teacher))
        if own != wanted:
            raise InputError(f"distillation.teacher takes images as {wanted}, the student as {own}: take another")
        self.config, self.levels = config, feature_levels(student) if config.feature_weight else {}
        if self.levels.items() - feature_levels(teacher).items():
            raise InputError(
                f"distillation.teacher {config.teacher.name} has features {feature_levels(teacher)}, the student "
                f"{self.levels}: set distillation.feature_weight to 0, or take another teacher"
            )
        self.teacher = teacher.eval().requires_grad_(False)
        self.fused = fuse(self.teacher).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def losses(self, model: nn.Module, student: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The named losses of a batch.

        Args:
            model: What is called: the student, or its replica in distributed training.
            student: The student itself.
            images: ``(B, C, H, W)``.
            labels: ``(B,)``.
        """
        config, temperature = self.config, self.config.temperature
        self.fused = self.fused.to(images.device)
        with torch.no_grad(), features(self.fused, self.levels) as wanted:
            target = self.fused(images)
        with features(student, self.levels) as found:
            scores = model(images)
        found_scores, wanted_scores = (F.log_softmax(z / temperature, dim=1) for z in (scores, target))
        softened = F.kl_div(found_scores, wanted_scores, log_target=True, reduction="batchmean")
        losses = {
            "loss_labels": (1 - config.weight) * F.cross_entropy(scores, labels),
            "loss_scores": config.weight * temperature**2 * softened,
        }
        errors = [relative_error(found[name], wanted[name]) for name in self.levels]
        return losses | ({"loss_features": config.feature_weight * torch.stack(errors).sum()} if errors else {})


def normalisation(model: nn.Module) -> dict[str, Any]:
    """What a network takes: size, mean and deviation."""
    data_config = resolve_model_data_config(model)
    return {name: data_config[name] for name in ("input_size", "mean", "std")}


def feature_levels(model: nn.Module) -> dict[str, int]:
    """Name of the module and channels of the last level of every stride in timm's ``feature_info``, but the stem."""
    info: Any = model.feature_info
    last = {level["reduction"]: level for level in list(info)[1:]}
    return {level["module"]: level["num_chs"] for level in last.values()}


@contextmanager
def features(model: nn.Module, levels: dict[str, int]) -> Iterator[dict[str, Tensor]]:
    """Collect the outputs of these modules."""
    found: dict[str, Tensor] = {}
    handles = [
        model.get_submodule(name).register_forward_hook(lambda m, i, output, n=name: found.update({n: output}))
        for name in levels
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def relative_error(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean square of the difference over that of ``wanted``, in float32."""
    wanted = wanted.float()
    return F.mse_loss(found.float(), wanted) / wanted.square().mean()
