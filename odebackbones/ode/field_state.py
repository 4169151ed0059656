"""What the modules of a field compute with, for a recomputation to find again: tensors, buffers and switches."""

from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from odebackbones.errors import InputError
from odebackbones.ode.graphs import Graph, open_ends, tensors_at
from odebackbones.ode.moving_buffers import MovingBuffers
from odebackbones.ode.slots import (
    Slot,
    buffer_slots,
    cached_parametrizations,
    modules_of,
    replaced,
    tensor_slots,
    tracking_norms,
)
from odebackbones.ode.surroundings import Surroundings


class Moment(NamedTuple):
    """What may move from one evaluation to the next: copies of a field's buffers, and its modules' switches."""

    buffers: list[Tensor]
    switches: list[bool]


class FieldState:
    """The tensors with which a solve computes, and the switches of its modules, as the forward pass has them.

    The backward pass may find others: ``torch.func.functional_call`` and ``nn.DataParallel`` have put parameters back,
    ``p.data = ...`` has replaced one, ``model.eval()`` has changed modes, a conversion has replaced layers, another
    forward pass has moved buffers.
    :meth:`restored` brings all of it back for the time of a recomputation.

    Args:
        root: Whose modules compute; what scripted ones hold is left as it is.
        parameters: Tensors beyond theirs that the field depends on.

    Attributes:
        tensors: All tensors that may want a gradient, each once: parameters, and what stands in their place.
        start: Buffers and switches, before the solve.
        is_compiled: Whether a module is.
        results: What modules keep of what they have computed in the first step: its name and place.

    Raises:
        InputError: A parameter has no shape yet.
    """

    def __init__(self, root: nn.Module, parameters: Sequence[Tensor] = ()) -> None:
        modules = modules_of(root)
        require_shapes(modules)
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
        self.is_compiled = any(module._compiled_call_impl is not None for module in self.modules)
        self.buffers = MovingBuffers(self.modules)
        self.results: list[tuple[str, Slot]] = []
        self.start = Moment([record.copy for record in self.buffers.latest], [slot.value() for slot in self.switches])

    def collect(self) -> None:
        """Note every tensor once, and a second name of its storage, which ``p.data = ...`` does not change."""
        found = [*(slot.value() for slot in self.slots), *self.cached.values(), *self.given]
        self.tensors: list[Tensor] = list({id(tensor): tensor for tensor in found}.values())
        self.values = [tensor.detach() for tensor in self.tensors]
        self.slots_of: dict[int, list[Slot]] = {}
        for slot in self.slots:
            self.slots_of.setdefault(id(slot.value()), []).append(slot)

    def include(self, graph: Graph, compute: Callable[[], Any]) -> None:
        """Let what the solve turns out to depend on, and what no module holds, be inputs of it, too.

        Args:
            graph: Of its first step.
            compute: That step again.

        Raises:
            InputError: There is something else that can't be found.
        """
        leaves, edges = open_ends(graph, self.tensors)
        if edges:
            with without_trace(self.modules, graph.start[0].device):
                others = tensors_at(edges, compute)
            if None in others:
                raise unknown_tensor(edges[others.index(None)][0])
            leaves += others
        if leaves:
            self.given += leaves
            self.collect()
        self.note_results(graph)

    def note_results(self, graph: Graph) -> None:
        """Note where modules keep what they have computed in this graph, but for weights that hooks compute."""
        for module in self.modules:
            hooked = {getattr(hook, "name", None) for hook in module._forward_pre_hooks.values()}
            for slot in tensor_slots(module):
                if not graph.has_made(slot.value()) or slot.key in hooked:
                    continue
                if slot.owner is module._buffers:
                    slot.owner[slot.key] = slot.value().detach()
                else:
                    self.results.append((name_in(module, slot), whole(slot)))

    def views(self) -> list[Tensor]:
        """The tensors as inputs of a solve that don't depend on each other; those of no module are themselves."""
        return [t.view_as(t) if self.is_replaceable(t) else t for t in self.tensors]

    def is_replaceable(self, tensor: Tensor) -> bool:
        """Whether modules can be made to compute with another tensor in place of this one."""
        return id(tensor) in self.slots_of or any(tensor is other for other in self.cached.values())

    def require_known(self, graph: Graph, computed: Sequence[Tensor]) -> None:
        """Refuse a later step that depends on more than the first one showed; ``computed``: what modules hold."""
        leaves, edges = open_ends(graph, [*computed, *self.given])
        if leaves or edges:
            raise unknown_tensor(leaves[0] if leaves else edges[0][0])

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
        for name, slot in self.results:
            slot.owner[slot.key] = without_graph(slot.value(), known, name=name)
        if self.buffers.begin_late():
            raise InputError("a buffer of the field begins to move after the first step: take gradient='backprop'")
        for module in self.modules:
            for name, value in vars(module).items():
                if isinstance(value, tuple) and any(isinstance(v, Tensor) and v.requires_grad for v in value):
                    raise InputError(
                        f"{type(module).__name__}.{name} is a tuple with tensors that want a gradient, which a "
                        f"recomputation can't put back: keep them in a list, or take gradient='backprop'"
                    )

    def moment(self) -> Moment:
        """Buffers and switches as they are now."""
        return Moment(self.buffers.copies(), [slot.value() for slot in self.switches])

    def go_back_to(self, moment: Moment) -> None:
        """Let the modules compute with what these copies have, which stay as they are, and with these switches."""
        self.buffers.put(moment.buffers)
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
            settings += [(slot, slot.value()) for slot, _ in self.buffers.slots]  # to be put back, as these:
            settings += [(slot, slot.value()) for _, slot in self.results]
            stack.enter_context(replaced(settings))
            yield [tensor for tensor, wanted in zip(computed, needed, strict=True) if wanted]

    def stand_in(self, i: int, saved: Tensor, wanted: bool, *, itself: bool) -> Tensor:
        """What to compute with in place of tensor ``i``: itself where that will do."""
        tensor, value = self.tensors[i], self.values[i]
        slots = self.slots_of.get(id(tensor), [])
        if same_storage(saved, value):
            if itself and self.is_replaceable(tensor):
                return saved.view_as(saved)  # which none of the other tensors depends on
            is_in_place = bool(slots) and all(slot.value() is saved for slot in slots)
            if not self.is_replaceable(tensor) or (is_in_place and saved.is_leaf and saved.requires_grad == wanted):
                return saved
        elif itself or not self.is_replaceable(tensor):
            raise InputError(
                f"a tensor of the shape {tuple(saved.shape)} that the field depends on got another storage "
                f"(p.data = ...) between the forward and the backward pass: change it after the backward pass"
            )
        return value.detach().requires_grad_(wanted)


def same_storage(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are views of one memory, at the same place."""
    same = a.untyped_storage()._cdata == b.untyped_storage()._cdata
    return same and int(a.storage_offset()) == int(b.storage_offset())


def require_shapes(modules: Sequence[nn.Module]) -> None:
    """Refuse parameters whose shapes a first forward pass will tell."""
    for module in modules:
        if not isinstance(module, torch.jit.ScriptModule) and any(
            is_lazy(p) for p in module._parameters.values() if p is not None
        ):
            raise InputError(
                f"{type(module).__name__} does not know the shape of its parameters yet: run it once under "
                f"torch.no_grad(), as lazy layers need, before it is trained"
            )


def unknown_tensor(end: Any) -> InputError:
    """What to say of a tensor, or of the node of a graph, that a field depends on and that can't be found again."""
    shape = tuple(end.shape if isinstance(end, Tensor) else end._input_metadata[0].shape)
    return InputError(
        f"the vector field depends on a tensor of the shape {shape} that wants a gradient and that none of its modules "
        f"holds: pass parameters=(...) to odeint or ODEBlock, keep it as an attribute, or take gradient='backprop'"
    )


def name_in(module: nn.Module, slot: Slot) -> str:
    """What to call something that a module keeps."""
    owner = next((name for name, value in vars(module).items() if value is slot.owner), slot.key)
    return f"{type(module).__name__}.{owner}"


def whole(slot: Slot) -> Slot:
    """The slot, or of one in a list, which may grow, all of it."""
    return Slot(slot.owner, slice(None)) if isinstance(slot.owner, list) else slot


def without_graph(value: Any, known: Container[int], *, name: str) -> Any:
    """A tensor that a solve has computed on its way, or a list with such, which refuses to be differentiated."""
    if isinstance(value, list):
        return [without_graph(item, known, name=name) for item in value]
    if not isinstance(value, Tensor) or not value.is_floating_point() or id(value) in known:
        return value
    return Ungraphed.apply(value.detach().requires_grad_(), name)


class Ungraphed(torch.autograd.Function):
    """A tensor of which no graph was kept."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, name: str) -> Tensor:
        """The tensor itself."""
        ctx.name = name
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[None, ...]:
        """Say so."""
        raise InputError(
            f"{ctx.name} was computed in a solve that keeps no graph of it: let it be a part of the state (a tuple), "
            f"or take gradient='backprop'"
        )


@contextmanager
def without_trace(modules: Sequence[nn.Module], device: torch.device) -> Iterator[list[bool]]:
    """Compute what does not count: random generators and buffers stay as they are; yields as buffers_untouched."""
    with Surroundings(device, modules).forked_random(), buffers_untouched(modules) as moved:
        yield moved


@contextmanager
def buffers_untouched(modules: Sequence[nn.Module]) -> Iterator[list[bool]]:
    """Let a solve that does not count move copies of the buffers; afterwards the list holds whether any moved."""
    plain = [module for module in modules if not isinstance(module, torch.jit.ScriptModule)]
    moved: list[bool] = []
    uncounted = [(Slot(vars(module), "track_running_stats"), False) for module in tracking_norms(plain)]
    copies = [(slot, slot.value().clone()) for module in plain for slot in buffer_slots(module)]
    originals = [slot.value() for slot, _ in copies]
    with replaced([*uncounted, *copies]):
        yield moved
        moved.append(any(not torch.equal(slot.value(), old) for (slot, _), old in zip(copies, originals, strict=True)))
