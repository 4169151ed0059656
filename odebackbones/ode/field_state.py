"""What the modules of a field compute with, for a recomputation to find again: tensors, buffers and switches."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.utils import parametrize

from odebackbones.errors import InputError


class Moment(NamedTuple):
    """What may move from one evaluation to the next: copies of a field's buffers, and its modules' switches."""

    buffers: list[Tensor]
    switches: list[bool]


MISSING: Any = object()


class Slot(NamedTuple):
    """Where a module keeps something: a dictionary or list of its, and the key in it."""

    owner: Any
    key: Any

    def value(self) -> Any:
        """What stands there now."""
        try:
            return self.owner[self.key]
        except LookupError:
            return MISSING


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
        start: Buffers and switches, before the solve.
    """

    def __init__(self, modules: Iterable[nn.Module], parameters: Sequence[Tensor] = ()) -> None:
        modules = list(modules)
        self.modules = [module for module in modules if not isinstance(module, torch.jit.ScriptModule)]
        scripted = [p for module in modules if isinstance(module, torch.jit.ScriptModule) for p in module.parameters()]
        self.given = [*parameters, *scripted]
        self.slots = [slot for module in self.modules for slot in tensor_slots(module)]
        self.cached = cached_parametrizations(self.modules)
        self.collect()
        self.children = [
            (Slot(module._modules, name), child) for module in self.modules for name, child in module._modules.items()
        ]
        counting = tracking_norms(self.modules)
        self.uncounted = [Slot(vars(module), "track_running_stats") for module in counting]
        self.switches = [
            Slot(vars(module), name)
            for module in self.modules
            for name, value in vars(module).items()
            if isinstance(value, bool) and not (name == "track_running_stats" and module in counting)
        ]
        self.buffer_slots = [(slot, module) for module in self.modules for slot in buffer_slots(module)]
        self.latest: list[Recorded] = []
        self.moving: set[int] = set()
        self.untold: list[bool] = []  # which moved without torch telling
        self.snapshots = 0  # after the start
        self.start = self.moment()

    def collect(self) -> None:
        """Note every tensor once, and a second name of its storage, which ``p.data = ...`` does not change."""
        found = [*(slot.value() for slot in self.slots), *self.cached.values(), *self.given]
        self.tensors: list[Tensor] = list({id(tensor): tensor for tensor in found}.values())
        self.values = [tensor.detach() for tensor in self.tensors]
        self.slots_of: dict[int, list[Slot]] = {}
        for slot in self.slots:
            self.slots_of.setdefault(id(slot.value()), []).append(slot)

    def settle(self) -> None:
        """After the forward pass: what it has set itself, as a hook that computes a weight does, is no input of it.

        Raises:
            InputError: A buffer began to move after the first step, in a way that torch does not tell; or a tuple has
                tensors that want a gradient.
        """
        known = {id(tensor) for tensor in self.tensors}
        inputs = [slot for slot in self.slots if id(slot.value()) in known]
        if len(inputs) < len(self.slots):
            self.slots = inputs
            self.collect()
        unseen = self.moving.copy()
        self.buffers(look=True)
        if self.snapshots > 1 and any(self.untold[i] for i in self.moving - unseen):
            raise InputError("a buffer of the field begins to move after the first step: take gradient='backprop'")
        for module in self.modules:
            for name, value in vars(module).items():
                if isinstance(value, tuple) and any(isinstance(v, Tensor) and v.requires_grad for v in value):
                    raise InputError(
                        f"{type(module).__name__}.{name} is a tuple with tensors that want a gradient, which a "
                        f"recomputation can't put back: keep them in a list, or take gradient='backprop'"
                    )

    def buffers(self, *, look: bool = False) -> list[Tensor]:
        """Copies of the buffers as they are now; of one that has not moved since the last call, the same copy.

        Without those of norms that track statistics in training, which do not compute with them. torch's batch_norm
        counts no version up, so values are compared, too, in training: of all buffers once after the first step, or
        when asked to ``look``, and later of those that were found to move so.
        """
        now = [slot.value() for slot, _ in self.buffer_slots]
        if not self.latest:
            self.latest = [recorded(buffer) for buffer in now]
            self.untold = [False] * len(now)
            return [record.copy for record in self.latest]
        told = [is_told(buffer, record) for buffer, record in zip(now, self.latest, strict=True)]
        watched = [
            i
            for i, (_, module) in enumerate(self.buffer_slots)
            if not told[i] and module.training and (look or self.snapshots == 0 or self.untold[i])
        ]
        self.snapshots += 1
        untold = differing([(now[i], self.latest[i].copy) for i in watched])
        for i, differs in zip(watched, untold, strict=True):
            self.untold[i] = self.untold[i] or differs
            told[i] = differs
        for i, moved in enumerate(told):
            if moved:
                self.latest[i] = recorded(now[i])
                self.moving.add(i)
        return [record.copy for record in self.latest]

    def moment(self) -> Moment:
        """Buffers and switches as they are now."""
        return Moment(self.buffers(), [slot.value() for slot in self.switches])

    def go_back_to(self, moment: Moment) -> None:
        """Let the modules compute with what these copies have, which stay as they are, and with these switches."""
        for i, ((slot, _), buffer) in enumerate(zip(self.buffer_slots, moment.buffers, strict=True)):
            slot.owner[slot.key] = buffer.clone() if i in self.moving else buffer
        for slot, value in zip(self.switches, moment.switches, strict=True):
            slot.owner[slot.key] = value

    @contextmanager
    def restored(
        self, saved: Sequence[Tensor], needed: Sequence[bool], *, itself: bool = False
    ) -> Iterator[list[Tensor]]:
        """Tensors and switches of the forward pass, and no batch counted; afterwards all is as it was found.

        Args:
            saved: :attr:`tensors`, as autograd has saved them.
            needed: Which of them want a gradient.
            itself: Whether to compute with views of ``saved``, for derivatives of the gradients, and not, where the
                modules have others by now, with leaves of the same values.

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
            settings += [*zip(self.switches, self.start.switches, strict=True), *self.children]
            settings += [(slot, False) for slot in self.uncounted]
            settings += [(slot, slot.value()) for slot, _ in self.buffer_slots]  # to be put back
            stack.enter_context(replaced(settings))
            yield [tensor for tensor, wanted in zip(computed, needed, strict=True) if wanted]

    def stand_in(self, i: int, saved: Tensor, wanted: bool, *, itself: bool) -> Tensor:
        """What to compute with in place of tensor ``i``: itself where that will do."""
        tensor, value = self.tensors[i], self.values[i]
        slots = self.slots_of.get(id(tensor), [])
        is_replaceable = bool(slots) or id(tensor) in map(id, self.cached.values())
        if same_storage(saved, value):
            if itself and is_replaceable:
                return saved.view_as(saved)  # which none of the other tensors depends on
            is_in_place = bool(slots) and all(slot.value() is saved for slot in slots)
            if not is_replaceable or (is_in_place and saved.is_leaf and saved.requires_grad == wanted):
                return saved
        elif itself or not is_replaceable:
            raise InputError(
                f"a tensor of the shape {tuple(saved.shape)} that the field depends on got another storage "
                f"(p.data = ...) between the forward and the backward pass: change it after the backward pass"
            )
        return value.detach().requires_grad_(wanted)


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
    """Where a module has its buffers; none of a norm that only counts batches in them."""
    if tracking_norms([module]):
        return []
    return [
        Slot(module._buffers, name)
        for name, buffer in module._buffers.items()
        if buffer is not None and not buffer.requires_grad
    ]


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


def is_told(buffer: Tensor, record: Recorded) -> bool:
    """Whether torch tells that a buffer is not as recorded: it is another, or was changed in place."""
    return buffer is not record.buffer or version(buffer) != record.version


def differing(pairs: Sequence[tuple[Tensor, Tensor]]) -> list[bool]:
    """Whether the tensors of each pair differ; waits for the device once, and not while a CUDA graph is captured."""
    if not pairs or (pairs[0][0].is_cuda and torch.cuda.is_current_stream_capturing()):
        return [False] * len(pairs)
    if any(a.shape != b.shape for a, b in pairs):
        return [a.shape != b.shape or not torch.equal(a, b) for a, b in pairs]
    return torch.stack([(a != b).any().to(pairs[0][0].device) for a, b in pairs]).tolist()


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
                del slot.owner[slot.key]
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
