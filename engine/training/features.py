"""Outputs of a network's modules, and how far they are from another network's: for distillation of any kind."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@contextmanager
def features(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Collect the outputs of the named modules."""
    found: dict[str, Tensor] = {}
    handles = [
        model.get_submodule(name).register_forward_hook(lambda m, i, output, n=name: found.update({n: output}))
        for name in names
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def relative_error(found: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean square of the difference over the mean square of ``wanted``, in float32."""
    wanted = wanted.float()
    size = wanted.square().mean().clamp(min=torch.finfo(torch.float32).tiny)
    return F.mse_loss(found.float(), wanted) / size
