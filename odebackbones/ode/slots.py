"""The places where modules keep what they compute with, so that it can be replaced for a while and put back."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.utils import parametrize

MISSING: Any = object()


class Slot(NamedTuple):
    """A place where a module keeps something: a dictionary or list, and the key in it."""

    owner: Any
    key: Any

    def value(self) -> Any:
        """The present value, or ``MISSING``."""
        try:
            return self.owner[self.key]
        except LookupError:
            return MISSING


PLAIN = (bool, int, float, complex, str)
"""Types of attributes whose values a recomputation restores."""


def modules_of(*roots: Any) -> list[nn.Module]:
    """Find all modules of the ``roots``: themselves, registered submodules, and modules in container attributes."""
    found: dict[nn.Module, None] = {}
    waiting = [root for root in roots if is_module(root)]
    while waiting:
        module = waiting.pop()
        if module not in found:
            found[module] = None
            waiting += [child for child in module._modules.values() if child is not None]
            if not isinstance(module, torch.jit.ScriptModule):
                waiting += [item for value in vars(module).values() for item in items(value) if is_module(item)]
    return list(found)


def items(value: Any) -> Iterator[Any]:
    """Yield what a container and the containers in it hold; nothing for other values."""
    waiting, seen = [value], set()
    while waiting:
        container = waiting.pop()
        if id(container) in seen:
            continue
        seen.add(id(container))
        inside = list(members(container))
        yield from inside
        waiting += [item for item in inside if isinstance(item, CONTAINERS)]


CONTAINERS = (dict, list, tuple, set, deque, partial, SimpleNamespace)


def members(value: Any) -> Iterable[Any]:
    """Return the direct members of a container; nothing for other values."""
    if isinstance(value, partial):
        return (value.func, *value.args, *value.keywords.values())
    if isinstance(value, SimpleNamespace):
        return vars(value).values()
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list | tuple | set | deque) else ()


def is_module(value: Any) -> bool:
    """Whether the value is a module, not a module class."""
    return isinstance(value, nn.Module)


def tensor_slots(module: nn.Module) -> list[Slot]:
    """Find a module's parameters and other tensors that require a gradient, also in lists and dictionaries."""
    slots = [Slot(module._parameters, name) for name, p in module._parameters.items() if p is not None]
    for owner in (vars(module), module._buffers):
        slots += [Slot(owner, name) for name, value in owner.items() if wants_gradient(value)]
    for value in vars(module).values():
        keys = range(len(value)) if isinstance(value, list) else value if isinstance(value, dict) else ()
        is_own = value is not module._parameters and value is not module._buffers
        slots += [Slot(value, key) for key in keys if is_own and wants_gradient(value[key])]  # pyright: ignore[reportIndexIssue]
    return slots


def switch_slots(module: nn.Module) -> list[Slot]:
    """Find a module's plain values: all of them in a user's module, only the switches in torch's own."""
    kinds = bool if type(module).__module__.startswith("torch.nn.") else PLAIN
    return [Slot(vars(module), name) for name, value in vars(module).items() if isinstance(value, kinds)]


def wants_gradient(value: Any) -> bool:
    """Whether the value is a tensor that requires a gradient."""
    return isinstance(value, Tensor) and value.requires_grad


def cached_parametrizations(modules: Sequence[nn.Module]) -> Mapping[Any, Tensor]:
    """Return what :func:`torch.nn.utils.parametrize.cached` holds for these modules; nothing outside its context."""
    if not parametrize._cache_enabled:
        return {}
    for module in modules:
        for name in getattr(module, "parametrizations", {}):
            getattr(module, name)
    wanted = {id(module) for module in modules}
    return {key: tensor for key, tensor in parametrize._cache.items() if key[0] in wanted and tensor is not None}


def buffer_slots(module: nn.Module) -> list[Slot]:
    """Find a module's buffers and tensor attributes; nothing for a norm that only counts batches in its buffers."""
    if tracking_norms([module]):
        return []
    return [
        Slot(owner, name)
        for owner in (module._buffers, vars(module))
        for name, value in owner.items()
        if isinstance(value, Tensor) and not value.requires_grad
    ]


def tracking_norms(modules: Iterable[nn.Module]) -> list[nn.Module]:
    """Find the batch norms whose running statistics a forward pass updates but does not use.

    Instance norms are left out: torch updates their statistics whatever ``track_running_stats`` says.
    """
    return [
        module
        for module in modules
        if module.training and getattr(module, "track_running_stats", False) and not isinstance(module, _InstanceNorm)
    ]


@contextmanager
def replaced(settings: Sequence[tuple[Slot, Any]]) -> Iterator[None]:
    """Put values in their slots, and restore the previous ones afterwards."""
    before = [(slot, slot.value()) for slot, _ in settings]
    try:
        for slot, value in settings:
            slot.owner[slot.key] = value
        yield
    finally:
        for slot, value in reversed(before):
            if value is MISSING:
                del slot.owner[slot.key]
            else:
                slot.owner[slot.key] = value
