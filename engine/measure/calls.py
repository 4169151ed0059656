"""Model calls to measure: the forward pass of a training step, through the whole model and through its backbone."""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from engine.config import OptimConfig
from engine.training.optimization import autocast


def loss_call(
    model: nn.Module, losses: Callable[[], Mapping[str, Tensor]], device: torch.device, optim: OptimConfig
) -> Callable[[], Tensor]:
    """Return a call that computes the sum of the losses ``()``, in training mode and in the config's precision."""

    def call() -> Tensor:
        model.train()
        with autocast(device, optim):
            return torch.stack(list(losses().values())).sum()

    return call


def features_call(
    model: nn.Module, features: Callable[[], Iterable[Tensor]], device: torch.device, optim: OptimConfig
) -> Callable[[], Tensor]:
    """Return a call that sums the means of a backbone's features, from which a backward pass starts as from a loss."""
    return loss_call(model, lambda: {str(i): level.float().mean() for i, level in enumerate(features())}, device, optim)
