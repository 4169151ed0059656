"""Results of a solve that modules keep: tensors that look as if they had a graph, but have none."""

import warnings
from collections.abc import Container, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from odebackbones.errors import InputError
from odebackbones.ode.graphs import Graph
from odebackbones.ode.slots import Slot, tensor_slots


def results_in(graph: Graph, modules: Sequence[nn.Module]) -> list[tuple[str, Slot]]:
    """Find the names and slots of results of this graph that modules keep, except weights that hooks compute.

    A buffer with a graph loses it, with a warning.
    """
    found = []
    for module in modules:
        hooked = {getattr(hook, "name", None) for hook in module._forward_pre_hooks.values()}
        for slot in tensor_slots(module):
            if not graph.has_made(slot.value()) or slot.key in hooked:
                continue
            if slot.owner is module._buffers:
                slot.owner[slot.key] = slot.value().detach()
                warnings.warn(
                    f"{type(module).__name__}.{slot.key}, a buffer, was given a graph in a solve, which ends with the "
                    f"step: update it under torch.no_grad(), let it be a part of the state (a tuple), or take "
                    f"gradient='backprop'",
                    stacklevel=2,
                )
            else:
                found.append((name_in(module, slot), whole(module, slot)))
    return found


def name_in(module: nn.Module, slot: Slot) -> str:
    """Name a tensor that a module keeps, for errors."""
    owner = next((name for name, value in vars(module).items() if value is slot.owner), slot.key)
    return f"{type(module).__name__}.{owner}"


def whole(module: nn.Module, slot: Slot) -> Slot:
    """Return the slot; for a slot in a list or dictionary, which may grow, the whole container."""
    return slot if slot.owner is vars(module) else Slot(Contents(slot.owner), None)


class Contents:
    """The contents of a list or dictionary, as one value under any key."""

    def __init__(self, container: Any) -> None:
        self.container = container

    def __getitem__(self, key: Any) -> Any:
        return self.container.copy()

    def __setitem__(self, key: Any, value: Any) -> None:
        self.container.clear()
        self.container.update(value) if isinstance(value, dict) else self.container.extend(value)


def without_graph(value: Any, known: Container[int], *, name: str) -> Any:
    """Make tensors that a solve computed, alone or in a list or dictionary, refuse to be differentiated."""
    if isinstance(value, list):
        return [without_graph(item, known, name=name) for item in value]
    if isinstance(value, dict):
        return {key: without_graph(item, known, name=name) for key, item in value.items()}
    if not isinstance(value, Tensor) or not value.is_floating_point() or id(value) in known:
        return value
    return Ungraphed.apply(value.detach().requires_grad_(), name)


class Ungraphed(torch.autograd.Function):
    """A tensor whose graph was not kept."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, name: str) -> Tensor:
        """Return the tensor itself."""
        ctx.name = name
        ctx.set_materialize_grads(False)
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[None, ...]:
        """Raise an error if a nonzero gradient arrives."""
        if any(gradient is not None and bool(gradient.any()) for gradient in gradients):
            raise InputError(
                f"{ctx.name} was computed in a solve that keeps no graph of it: let it be a part of the state (a "
                f"tuple), or take gradient='backprop'"
            )
        return None, None
