"""Distillation from a trained run of the same task: what the tasks share of it."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from engine.runs.cli import load_with_own_settings
from engine.task import Task
from engine.training.features import relative_error
from engine.weights.checkpoint import weights_of
from odebackbones.convert.solver import evaluating
from odebackbones.errors import InputError

TRIED_SIZE = (1, 3, 64, 64)
"""Shape of the images on which features are compared before training."""


def load_teacher(task: type[Task], run: str) -> nn.Module:
    """Load a run's model as a teacher: in evaluation mode, and not trained.

    Raises:
        InputError: There is no such run of the task.
    """
    teacher = load_with_own_settings(task, weights_of(Path(run)), "cpu").model
    return teacher.eval().requires_grad_(False)


@torch.no_grad()
def require_equal_features(
    student: nn.Module, teacher: nn.Module, levels: Callable[[nn.Module, Tensor], Sequence[Tensor]]
) -> None:
    """Refuse a teacher whose features have other shapes than the student's.

    Args:
        student: The model that learns.
        teacher: The trained model, on the same device.
        levels: Function that returns the features of one of them on images.

    Raises:
        InputError: Names the shapes.
    """
    images = torch.zeros(TRIED_SIZE, device=next(student.parameters()).device)
    with evaluating(student):
        shapes = [[tuple(level.shape[1:]) for level in levels(model, images)] for model in (student, teacher)]
    if shapes[0] != shapes[1]:
        raise InputError(
            f"distillation.teacher has features {shapes[1]}, the student {shapes[0]}: set distillation.feature_weight "
            f"to 0, or take another teacher"
        )


def feature_error(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Return the relative errors of all levels, summed."""
    return torch.stack([relative_error(found, wanted) for found, wanted in zip(student, teacher, strict=True)]).sum()
