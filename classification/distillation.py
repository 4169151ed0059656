"""Distillation: training toward the softened scores and the features of a trained teacher."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from classification.losses import LossConfig, label_loss
from classification.model import ModelConfig, build_classifier, input_config, is_run
from engine.training.features import features, relative_error
from engine.weights.checkpoint import load_checkpoint, weights_of
from engine.weights.pretrained import find_weight_transfer
from odebackbones import fuse
from odebackbones.convert.solver import evaluating
from odebackbones.errors import InputError, join_names


@dataclass(frozen=True)
class ClassifierDistillationConfig:
    """Distillation from a teacher.

    Args:
        teacher: The trained network, or the folder of its run; null for no distillation.
        temperature: Temperature T of the softened scores.
        weight: Weight of the loss on the teacher's scores; the loss on the labels has weight 1 minus this.
        feature_weight: Weight of the error of the features.
    """

    teacher: ModelConfig | str | None = None
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
    r"""Losses of a student that learns from a teacher.

    :math:`(1 - w) \mathrm{CE} + w T^2 \mathrm{KL}(\sigma(z_t / T) \| \sigma(z_s / T)) + w_f \sum_i
    \|h_{s,i} - h_{t,i}\|^2 / \|h_{t,i}\|^2`, with i the last feature map of every stride in timm's ``feature_info``.

    G. Hinton, O. Vinyals, J. Dean: Distilling the Knowledge in a Neural Network, 2015, arXiv:1503.02531;
    A. Romero et al.: FitNets: Hints for Thin Deep Nets, ICLR 2015, arXiv:1412.6550

    Args:
        config: Teacher, temperature and weights of the losses.
        student: Network with the same input as the teacher.
        student_input: timm's description of the student's input (:func:`~classification.model.input_config`).
        num_classes: Number of classes.
        loss: Loss on the labels.

    Raises:
        InputError: The teacher lacks trained weights, takes other images, or has other features, if these count.
    """

    def __init__(
        self,
        config: ClassifierDistillationConfig,
        student: nn.Module,
        *,
        student_input: Mapping[str, Any],
        num_classes: int,
        loss: LossConfig | None = None,
    ) -> None:
        assert config.teacher is not None
        self.config, self.loss = config, loss or LossConfig()
        taught_by = model_of_run(config.teacher) if isinstance(config.teacher, str) else config.teacher
        teacher = build_teacher(taught_by, num_classes=num_classes)
        own, wanted = (normalization(found) for found in (student_input, input_config(taught_by)))
        if own != wanted:
            raise InputError(f"distillation.teacher takes images of {wanted}, the student of {own}: take another")
        image = torch.randn(1, *student_input["input_size"], generator=torch.Generator().manual_seed(0))
        self.levels = common_levels(student, teacher, image) if config.feature_weight else []
        fused = fuse(teacher)
        if torch.allclose(fused(image), teacher(image), rtol=1e-3, atol=1e-3):  # not so for every timm network
            teacher = fused
        self.teacher = teacher.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def losses(self, model: nn.Module, student: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the named losses of a batch.

        Args:
            model: Model to call: the student, or its replica in distributed training.
            student: The student itself.
            images: ``(B, C, H, W)``.
            labels: Class indices ``(B,)``, or class probabilities ``(B, C)``.
        """
        config, temperature = self.config, self.config.temperature
        self.teacher = self.teacher.to(images.device)
        with torch.no_grad(), features(self.teacher, self.levels) as wanted:
            target = self.teacher(images)
        with features(student, self.levels) as found:
            scores = model(images)
        found_scores, wanted_scores = (F.log_softmax(z / temperature, dim=1) for z in (scores, target))
        softened = F.kl_div(found_scores, wanted_scores, log_target=True, reduction="batchmean")
        losses = {
            "loss_labels": (1 - config.weight) * label_loss(scores, labels, self.loss),
            "loss_scores": config.weight * temperature**2 * softened,
        }
        errors = [relative_error(found[name], wanted[name]) for name in self.levels]
        return losses | ({"loss_features": config.feature_weight * torch.stack(errors).sum()} if errors else {})


def require_same_classes(run: str, classes: Sequence[str]) -> None:
    """Refuse a teacher that was trained on other classes, or on the same in another order.

    Raises:
        InputError: Names both.
    """
    theirs = load_checkpoint(weights_of(Path(run)), task="classification")["metadata"]["classes"]
    if list(theirs) != list(classes):
        raise InputError(
            f"distillation.teacher {run} was trained on the classes {join_names(theirs)} in this order, and the data "
            f"have {join_names(classes)}; take another teacher"
        )


def model_of_run(run: str) -> ModelConfig:
    """Return the network of a classification run, with the run's weights."""
    model = load_checkpoint(weights_of(Path(run)), task="classification")["config"]["model"]
    return ModelConfig(model["backbone"], model["backbone_args"], checkpoint=str(weights_of(Path(run))))


def build_teacher(config: ModelConfig, *, num_classes: int) -> nn.Module:
    """Build the trained teacher, in evaluation mode.

    Raises:
        InputError: The teacher lacks trained weights, or has other classes.
    """
    if not (config.pretrained or config.checkpoint):
        raise InputError(
            f"distillation.teacher {config.backbone} has no trained weights: set its pretrained or checkpoint"
        )
    teacher = build_classifier(config, setting="distillation.teacher", num_classes=num_classes)
    trained: Any = teacher.pretrained_cfg
    record = find_weight_transfer(teacher)
    if record is not None:
        if record.new or record.reshaped:
            raise InputError(
                f"distillation.teacher {config.backbone} lacks trained weights, and all are needed: {record}"
            )
    elif (
        not is_run(config.checkpoint) and trained["num_classes"] != num_classes
    ):  # timm has then left out the classifier
        raise InputError(
            f"distillation.teacher {config.backbone} was trained on {trained['num_classes']} classes, and the data "
            f"have {num_classes}: take one that was trained on them"
        )
    return teacher.eval().requires_grad_(False)


def normalization(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the input properties on which two networks must agree: channels, mean and standard deviation."""
    return {"channels": found["input_size"][0], "mean": tuple(found["mean"]), "std": tuple(found["std"])}


@torch.no_grad()
def common_levels(student: nn.Module, teacher: nn.Module, image: Tensor) -> list[str]:
    """Return the name of the last module of each stride in timm's ``feature_info``.

    Raises:
        InputError: The modules or the shapes of their outputs differ between student and teacher.
    """
    shapes = []
    with evaluating(student):
        for model in (student, teacher):
            info: Any = getattr(model, "feature_info", [])
            names = list({level["reduction"]: level["module"] for level in info}.values())
            names = [name for name in names if name in dict(model.named_modules())]
            with features(model, names) as found:
                model(image)
            shapes.append({name: getattr(found[name], "shape", None) for name in names})
    if shapes[0] != shapes[1] or not shapes[0] or None in shapes[0].values():
        raise InputError(
            f"distillation.teacher has features {shapes[1]}, the student {shapes[0]}: set distillation.feature_weight "
            f"to 0, or take another teacher"
        )
    return list(shapes[0])
