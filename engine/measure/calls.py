"""Model calls that are measured: a training step's forward pass, of the whole model and of its backbone."""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from engine.config import OptimConfig
from engine.training.optimization import autocast


def loss_call(
    model: nn.Module, losses: Callable[[], Mapping[str, Tensor]], device: torch.device, optim: OptimConfig
) -> Callable[[], Tensor]:
    """The sum of the losses ``()``, in training mode and in the config's precision."""

    def call() -> Tensor:
        model.train()
        with autocast(device, optim):
            return torch.stack(list(losses().values())).sum()

    return call


def features_call(
    model: nn.Module, features: Callable[[], Iterable[Tensor]], device: torch.device, optim: OptimConfig
) -> Callable[[], Tensor]:
    """The sum of the means of a backbone's features, through which a backward pass goes as through a loss."""
    return loss_call(model, lambda: {str(i): level.float().mean() for i, level in enumerate(features())}, device, optim)
