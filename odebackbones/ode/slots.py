"""Where modules keep what they compute with, so that it can be replaced for a time and put back."""

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
    """Where a module keeps something: a dictionary or list, and the key in it."""

    owner: Any
    key: Any

    def value(self) -> Any:
        """What stands there now."""
        try:
            return self.owner[self.key]
        except LookupError:
            return MISSING


PLAIN = (bool, int, float, complex, str)
"""Kinds of attributes whose values a recomputation finds again."""


def modules_of(*roots: Any) -> list[nn.Module]:
    """All modules that the ``roots`` compute with: themselves, registered ones, and those in attributes' containers."""
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
    """What a container holds, and those in it; nothing of other values."""
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
    """What a container holds itself."""
    if isinstance(value, partial):
        return (value.func, *value.args, *value.keywords.values())
    if isinstance(value, SimpleNamespace):
        return vars(value).values()
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list | tuple | set | deque) else ()


def is_module(value: Any) -> bool:
    """Whether it is a module, and no class of them."""
    return isinstance(value, nn.Module)


def tensor_slots(module: nn.Module) -> list[Slot]:
    """Where a module has parameters, or tensors in their place that want a gradient; also in lists and dictionaries."""
    slots = [Slot(module._parameters, name) for name, p in module._parameters.items() if p is not None]
    for owner in (vars(module), module._buffers):
        slots += [Slot(owner, name) for name, value in owner.items() if wants_gradient(value)]
    for value in vars(module).values():
        keys = range(len(value)) if isinstance(value, list) else value if isinstance(value, dict) else ()
        is_own = value is not module._parameters and value is not module._buffers
        slots += [Slot(value, key) for key in keys if is_own and wants_gradient(value[key])]  # pyright: ignore[reportIndexIssue]
    return slots


def switch_slots(module: nn.Module) -> list[Slot]:
    """Where a module has plain values: all of a user's, and of torch's own those that switch something."""
    kinds = bool if type(module).__module__.startswith("torch.nn.") else PLAIN
    return [Slot(vars(module), name) for name, value in vars(module).items() if isinstance(value, kinds)]


def wants_gradient(value: Any) -> bool:
    """Whether it is a tensor that wants a gradient."""
    return isinstance(value, Tensor) and value.requires_grad


def cached_parametrizations(modules: Sequence[nn.Module]) -> Mapping[Any, Tensor]:
    """What :func:`torch.nn.utils.parametrize.cached` keeps of these modules, with a graph; nothing outside of it."""
    if not parametrize._cache_enabled:
        return {}
    for module in modules:
        for name in getattr(module, "parametrizations", {}):
            getattr(module, name)
    wanted = {id(module) for module in modules}
    return {key: tensor for key, tensor in parametrize._cache.items() if key[0] in wanted and tensor is not None}


def buffer_slots(module: nn.Module) -> list[Slot]:
    """Find a module's buffers and tensor attributes; nothing of a norm that only counts batches in its buffers."""
    if tracking_norms([module]):
        return []
    return [
        Slot(owner, name)
        for owner in (module._buffers, vars(module))
        for name, value in owner.items()
        if isinstance(value, Tensor) and not value.requires_grad
    ]


def tracking_norms(modules: Iterable[nn.Module]) -> list[nn.Module]:
    """The batch norms whose running statistics a forward pass updates, and does not use.

    Without instance norms: torch updates their statistics whatever ``track_running_stats`` says.
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
