"""What the modules of a field compute with, for a recomputation to find again: tensors, buffers and switches."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.utils import parametrize

from odebackbones.errors import InputError

Buffers = list[Tensor]
"""Copies of a field's buffers, as they were at one evaluation."""

MISSING: Any = object()


class Slot(NamedTuple):
    """Where a module keeps something: a dictionary of its, and the key in it."""

    owner: dict[Any, Any]
    key: Any

    def value(self) -> Any:
        """What stands there now."""
        return self.owner.get(self.key, MISSING)


class Recorded(NamedTuple):
    """A buffer at one time."""

    buffer: Tensor
    version: int
    copy: Tensor


class FieldState:
    """The tensors with which a solve computes, and the switches of its modules, as the forward pass has them.

    The backward pass may find others: ``torch.func.functional_call`` and ``nn.DataParallel`` have put parameters back,
    ``p.data = ...`` has replaced one, ``model.eval()`` has changed modes, a conversion has replaced layers, another
    forward pass has moved buffers.
    :meth:`restored` brings all of it back for the time of a recomputation.

    Args:
        modules: Those of the field; what scripted ones hold is left as it is.
        parameters: Tensors beyond theirs that the field depends on.

    Attributes:
        tensors: All tensors that may want a gradient, each once: parameters, and what stands in their place.
        start: The buffers, before the solve.
    """

    def __init__(self, modules: Iterable[nn.Module], parameters: Sequence[Tensor] = ()) -> None:
        modules = list(modules)
        self.modules = [module for module in modules if not isinstance(module, torch.jit.ScriptModule)]
        scripted = [p for module in modules if isinstance(module, torch.jit.ScriptModule) for p in module.parameters()]
        self.given = [*parameters, *scripted]
        self.slots = [slot for module in self.modules for slot in tensor_slots(module)]
        self.cached = cached_parametrizations(self.modules)
        self.collect()
        self.switches = [
            (Slot(vars(module), name), value)
            for module in self.modules
            for name, value in vars(module).items()
            if isinstance(value, bool)
        ]
        self.children = [
            (Slot(module._modules, name), child) for module in self.modules for name, child in module._modules.items()
        ]
        self.uncounted = [Slot(vars(module), "track_running_stats") for module in tracking_norms(self.modules)]
        self.buffer_slots = [(slot, module) for module in self.modules for slot in buffer_slots(module)]
        self.latest: list[Recorded] = []
        self.moving: set[int] = set()
        self.start = self.buffers()

    def collect(self) -> None:
        """Note every tensor once, and a second name of its storage, which ``p.data = ...`` does not change."""
        found = [*(slot.value() for slot in self.slots), *self.cached.values(), *self.given]
        self.tensors: list[Tensor] = list({id(tensor): tensor for tensor in found}.values())
        self.values = [tensor.detach() for tensor in self.tensors]
        self.slots_of: dict[int, list[Slot]] = {}
        for slot in self.slots:
            self.slots_of.setdefault(id(slot.value()), []).append(slot)

    def leave_out_results(self) -> None:
        """After the forward pass: what it has set itself, as a hook that computes a weight does, is no input of it."""
        known = {id(tensor) for tensor in self.tensors}
        inputs = [slot for slot in self.slots if id(slot.value()) in known]
        if len(inputs) < len(self.slots):
            self.slots = inputs
            self.collect()

    def buffers(self) -> Buffers:
        """Copies of the buffers as they are now; of one that has not moved since the last call, the same copy.

        Without those of norms that track statistics in training, which do not compute with them.
        """
        for i, (slot, module) in enumerate(self.buffer_slots):
            buffer = slot.value()
            if i == len(self.latest):
                self.latest.append(recorded(buffer))
            elif has_moved(buffer, self.latest[i], compare=module.training):
                self.latest[i] = recorded(buffer)
                self.moving.add(i)
        return [copy for _, _, copy in self.latest]

    def set_buffers(self, buffers: Buffers) -> None:
        """Let the modules compute with what these copies have; they stay as they are."""
        for i, ((slot, _), buffer) in enumerate(zip(self.buffer_slots, buffers, strict=True)):
            slot.owner[slot.key] = buffer.clone() if i in self.moving else buffer

    @contextmanager
    def restored(
        self, saved: Sequence[Tensor], needed: Sequence[bool], *, itself: bool = False
    ) -> Iterator[list[Tensor]]:
        """Tensors and switches of the forward pass, and no batch counted; afterwards all is as it was found.

        Args:
            saved: :attr:`tensors`, as autograd has saved them.
            needed: Which of them want a gradient.
            itself: Whether to compute with ``saved`` themselves, and not, where the modules have others by now, with
                leaves of the same values.

        Yields:
            The tensors with which the modules compute and that want a gradient.

        Raises:
            InputError: One has got another storage, and can't be replaced.
        """
        computed = [
            self.stand_in(i, tensor, wanted, itself=itself)
            for i, (tensor, wanted) in enumerate(zip(saved, needed, strict=True))
        ]
        stand_ins = {id(tensor): tensor_now for tensor, tensor_now in zip(self.tensors, computed, strict=True)}
        with ExitStack() as stack:
            settings = [(slot, stand_ins[i]) for i, slots in self.slots_of.items() for slot in slots]
            if self.cached:
                stack.enter_context(parametrize.cached())
                settings += [(Slot(parametrize._cache, k), stand_ins[id(t)]) for k, t in self.cached.items()]
            settings += [*self.switches, *self.children, *((slot, False) for slot in self.uncounted)]
            settings += [(slot, slot.value()) for slot, _ in self.buffer_slots]  # to be put back
            stack.enter_context(replaced(settings))
            yield [tensor for tensor, wanted in zip(computed, needed, strict=True) if wanted]

    def stand_in(self, i: int, saved: Tensor, wanted: bool, *, itself: bool) -> Tensor:
        """What to compute with in place of tensor ``i``: itself where that will do."""
        tensor, value = self.tensors[i], self.values[i]
        slots = self.slots_of.get(id(tensor), [])
        is_replaceable = bool(slots) or id(tensor) in map(id, self.cached.values())
        if same_storage(saved, value):
            is_in_place = bool(slots) and all(slot.value() is saved for slot in slots)
            if itself or not is_replaceable or (is_in_place and saved.requires_grad == wanted):
                return saved
        elif itself or not is_replaceable:
            raise InputError(
                f"a tensor of the shape {tuple(saved.shape)} that the field depends on got another storage "
                f"(p.data = ...) between the forward and the backward pass: change it after the backward pass"
            )
        return value.detach().requires_grad_(wanted)


def tensor_slots(module: nn.Module) -> list[Slot]:
    """Where a module has its parameters, or tensors that stand in their place and want a gradient."""
    parameters = [Slot(module._parameters, name) for name, p in module._parameters.items() if p is not None]
    others = [name for name, value in vars(module).items() if isinstance(value, Tensor) and value.requires_grad]
    return [*parameters, *(Slot(vars(module), name) for name in others)]


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
    """Where a module has its buffers; none of a norm that only counts batches in them."""
    if tracking_norms([module]):
        return []
    return [Slot(module._buffers, name) for name, buffer in module._buffers.items() if buffer is not None]


def tracking_norms(modules: Sequence[nn.Module]) -> list[nn.Module]:
    """The batch norms whose running statistics a forward pass updates, and does not use.

    No instance norms: torch's update theirs whatever ``track_running_stats`` says by then.
    """
    return [
        module
        for module in modules
        if module.training and getattr(module, "track_running_stats", False) and not isinstance(module, _InstanceNorm)
    ]


def recorded(buffer: Tensor) -> Recorded:
    """The buffer as it is now."""
    return Recorded(buffer, version(buffer), buffer.clone())


def has_moved(buffer: Tensor, record: Recorded, *, compare: bool) -> bool:
    """Whether a buffer is not as recorded; ``compare`` its values, as torch's batch_norm counts no version up."""
    if buffer is not record.buffer or version(buffer) != record.version:
        return True
    return compare and not torch.equal(buffer, record.copy)


def version(tensor: Tensor) -> int:
    """How often it was changed in place; tensors of the inference mode don't tell."""
    return 0 if tensor.is_inference() else tensor._version


def same_storage(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are views of one memory, at the same place."""
    same = a.untyped_storage()._cdata == b.untyped_storage()._cdata
    return same and int(a.storage_offset()) == int(b.storage_offset())


@contextmanager
def replaced(settings: Sequence[tuple[Slot, Any]]) -> Iterator[None]:
    """Put these in their slots, and afterwards what was there."""
    before = [(slot, slot.value()) for slot, _ in settings]
    try:
        for slot, value in settings:
            slot.owner[slot.key] = value
        yield
    finally:
        for slot, value in reversed(before):
            if value is MISSING:
                slot.owner.pop(slot.key, None)
            else:
                slot.owner[slot.key] = value


@contextmanager
def buffers_untouched(modules: Iterable[nn.Module]) -> Iterator[list[bool]]:
    """Let a solve that does not count move copies of the buffers; afterwards the list holds whether any moved."""
    plain = [module for module in modules if not isinstance(module, torch.jit.ScriptModule)]
    moved: list[bool] = []
    uncounted = [(Slot(vars(module), "track_running_stats"), False) for module in tracking_norms(plain)]
    copies = [(slot, slot.value().clone()) for module in plain for slot in buffer_slots(module)]
    originals = [slot.value() for slot, _ in copies]
    with replaced([*uncounted, *copies]):
        yield moved
        moved.append(any(not torch.equal(slot.value(), old) for (slot, _), old in zip(copies, originals, strict=True)))
