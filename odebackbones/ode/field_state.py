"""The tensors, buffers and switches that a field's modules compute with, for a recomputation to restore."""

from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from odebackbones.errors import InputError
from odebackbones.ode.graphs import Graph, Replacing, open_ends, tensors_at
from odebackbones.ode.moving_buffers import MovingBuffers
from odebackbones.ode.replay import ReplayContext
from odebackbones.ode.results import results_in, without_graph
from odebackbones.ode.slots import (
    MISSING,
    PLAIN,
    Slot,
    buffer_slots,
    cached_parametrizations,
    modules_of,
    replaced,
    switch_slots,
    tensor_slots,
    tracking_norms,
    wants_gradient,
)


class Moment(NamedTuple):
    """The part of a field that may change between evaluations: copies of its buffers, and its modules' switches."""

    buffers: list[Any]
    switches: list[Any]


class FieldState:
    """The tensors with which a solve computes, and the switches of its modules, as the forward pass has them.

    The backward pass may find others: ``torch.func.functional_call`` and ``nn.DataParallel`` put parameters back,
    ``p.data = ...`` replaces one, ``model.eval()`` changes modes, a conversion replaces layers, another forward pass
    changes buffers.
    :meth:`restored` restores all of it for the duration of a recomputation.

    Args:
        roots: Objects that compute; modules among them are searched. Scripted modules are left as they are.
        parameters: Further tensors that the field depends on, outside its modules.

    Attributes:
        tensors: All tensors that may require a gradient, each once: parameters, and tensors in their place.
        start: Buffers and switches before the solve.
        is_compiled: Whether a module is compiled.
        results: Names and slots of the results of the first step that modules keep.

    Raises:
        InputError: A parameter has no shape yet.
    """

    def __init__(self, *roots: Any, parameters: Sequence[Tensor] = ()) -> None:
        modules = modules_of(*roots)
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
            slot
            for module in self.modules
            for slot in switch_slots(module)
            if not (slot.key == "track_running_stats" and module in counting)
        ]
        self.is_compiled = any(module._compiled_call_impl is not None for module in self.modules)
        self.buffers = MovingBuffers(self.modules)
        self.results: list[tuple[str, Slot]] = []
        self.start = Moment([record.copy for record in self.buffers.latest], [slot.value() for slot in self.switches])

    def collect(self) -> None:
        """Note every tensor once, with a second reference to its storage, which ``p.data = ...`` does not change."""
        found = [*(slot.value() for slot in self.slots), *self.cached.values(), *self.given]
        self.tensors: list[Tensor] = list({id(tensor): tensor for tensor in found}.values())
        self.values = [tensor.detach() for tensor in self.tensors]
        self.slots_of: dict[int, list[Slot]] = {}
        for slot in self.slots:
            self.slots_of.setdefault(id(slot.value()), []).append(slot)

    def include(self, graph: Graph, compute: Callable[[], Any]) -> None:
        """Add to the inputs the tensors that the solve turns out to depend on and that no module holds.

        Args:
            graph: Graph of the first step.
            compute: Function that computes the first step again.

        Raises:
            InputError: The first step depends on another tensor, which can't be found.
        """
        leaves, edges = open_ends(graph, self.tensors)
        if edges:
            with without_trace(self.modules, graph.start[0].device):
                others = tensors_at(edges, compute)
            missing = [edge for edge, tensor in zip(edges, others, strict=True) if tensor is None]
            if missing:
                raise unknown_tensor(missing[0][0])
            leaves += [tensor for tensor in others if tensor is not None]
        if leaves:
            self.given += leaves
            self.collect()
        self.results += results_in(graph, self.modules)

    def views(self) -> list[Tensor]:
        """Return views of the tensors, as inputs of a solve that don't depend on each other."""
        return [tensor.view_as(tensor) for tensor in self.tensors]

    def is_replaceable(self, tensor: Tensor) -> bool:
        """Whether modules can be made to compute with another tensor in place of this one."""
        return id(tensor) in self.slots_of or any(tensor is other for other in self.cached.values())

    def is_outside(self, tensor: Tensor, stand_in: Tensor) -> bool:
        """Whether ``stand_in`` is another tensor, and no module holds ``tensor``."""
        return stand_in is not tensor and not self.is_replaceable(tensor)

    def require_known(self, graph: Graph, computed: Sequence[Tensor]) -> None:
        """Refuse a step that depends on more than the first step did; ``computed`` is what the modules hold."""
        leaves, edges = open_ends(graph, [*computed, *(tensor for tensor in self.given if tensor.is_leaf)])
        if leaves or edges:
            raise unknown_tensor(leaves[0] if leaves else edges[0][0])

    def forget_own(self) -> None:
        """Drop, after an evaluation, the inputs that it set itself, such as a weight that a hook computes."""
        known = {id(tensor) for tensor in self.tensors}
        inputs = [slot for slot in self.slots if id(slot.value()) in known]
        if len(inputs) < len(self.slots):
            self.slots = inputs
            self.collect()

    def settle(self) -> None:
        """Drop, after the forward pass, the inputs that it set itself, and cut the graphs of the kept results.

        Raises:
            InputError: A buffer began to change after the first step, in a way that torch does not report; or a tuple
                has tensors that require a gradient.
        """
        known = {id(tensor) for tensor in self.tensors}
        self.forget_own()
        self.cut_results(known)
        if self.buffers.begin_late():
            raise InputError("a buffer of the field begins to move after the first step: take gradient='backprop'")
        for module in self.modules:
            for name, value in vars(module).items():
                values = value if isinstance(value, tuple) else ()
                if any(wants_gradient(v) and not (v.is_leaf and id(v) in known) for v in values):
                    raise InputError(
                        f"{type(module).__name__}.{name} is a tuple with tensors that want a gradient, which a "
                        f"recomputation can't put back: keep them in a list, or take gradient='backprop'"
                    )

    def cut_results(self, known: Container[int]) -> None:
        """Make the results that modules keep refuse differentiation; ``known`` are the ids of the solve's inputs."""
        for name, slot in self.results:
            slot.owner[slot.key] = without_graph(slot.value(), known, name=name)

    def moment(self) -> Moment:
        """Return the buffers and switches as they are now."""
        values = [slot.value() for slot in self.switches]
        return Moment(self.buffers.copies(), [value if isinstance(value, PLAIN) else MISSING for value in values])

    def go_back_to(self, moment: Moment) -> None:
        """Let the modules compute with the values of this moment's copies, which stay unchanged, and its switches."""
        self.buffers.put(moment.buffers)
        for slot, value in zip(self.switches, moment.switches, strict=True):
            if value is not MISSING:
                slot.owner[slot.key] = value

    @contextmanager
    def restored(
        self, saved: Sequence[Tensor], needed: Sequence[bool], *, itself: bool = False
    ) -> Iterator[list[Tensor]]:
        """Restore the tensors and switches of the forward pass, count no batch, and put everything back afterwards.

        Args:
            saved: The :attr:`tensors`, as autograd has saved them.
            needed: Whether each of them requires a gradient.
            itself: Whether to compute with views of ``saved``, for derivatives of the gradients; otherwise leaves
                of the same values are used where the modules hold other tensors by now.

        Yields:
            The tensors with which the modules compute and that require a gradient.

        Raises:
            InputError: A tensor has a new storage, and can't be replaced.
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
            settings += [(slot, slot.value()) for slot, _ in self.buffers.slots]  # to be put back, like these:
            settings += [(slot, slot.value()) for _, slot in self.results]
            stack.enter_context(replaced(settings))
            if others := [
                (old, new) for old, new in zip(self.tensors, computed, strict=True) if self.is_outside(old, new)
            ]:
                stack.enter_context(Replacing(others))
            yield [tensor for tensor, wanted in zip(computed, needed, strict=True) if wanted]

    def stand_in(self, i: int, saved: Tensor, wanted: bool, *, itself: bool) -> Tensor:
        """Return the tensor to compute with in place of tensor ``i``: tensor ``i`` itself where possible."""
        tensor, value = self.tensors[i], self.values[i]
        slots = self.slots_of.get(id(tensor), [])
        if same_storage(saved, value):
            if itself:
                return saved.view_as(saved)  # which none of the other tensors depends on
            is_in_place = all(slot.value() is saved for slot in slots) and id(tensor) not in map(
                id, self.cached.values()
            )
            if is_in_place and saved.is_leaf and saved.requires_grad == wanted and not saved._backward_hooks:
                return saved
        elif itself or not self.is_replaceable(tensor):
            raise InputError(
                f"a tensor of the shape {tuple(saved.shape)} that the field depends on got another storage "
                f"(p.data = ...) between the forward and the backward pass: change it after the backward pass"
            )
        return value.detach().requires_grad_(wanted)


def same_storage(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are views of the same memory, at the same offset."""
    same = a.untyped_storage()._cdata == b.untyped_storage()._cdata
    return same and int(a.storage_offset()) == int(b.storage_offset())


def require_shapes(modules: Sequence[nn.Module]) -> None:
    """Refuse parameters whose shapes only a first forward pass determines."""
    for module in modules:
        if not isinstance(module, torch.jit.ScriptModule) and any(
            is_lazy(p) for p in module._parameters.values() if p is not None
        ):
            raise InputError(
                f"{type(module).__name__} does not know the shape of its parameters yet: run it once under "
                f"torch.no_grad(), as lazy layers need, before it is trained"
            )


def unknown_tensor(end: Any) -> InputError:
    """Error for a tensor, or a node of a graph, that a field depends on and that cannot be restored."""
    shape = tuple(end.shape if isinstance(end, Tensor) else end._input_metadata[0].shape)
    return InputError(
        f"the vector field depends on a tensor of the shape {shape} that wants a gradient and that none of its modules "
        f"holds: pass parameters=(...) to odeint or ODEBlock, keep it as an attribute, or take gradient='backprop'"
    )


@contextmanager
def without_trace(modules: Sequence[nn.Module], device: torch.device) -> Iterator[list[bool]]:
    """Let a trial computation leave random generators and buffers as they are; yield as buffers_untouched does."""
    with ReplayContext(device, modules).forked_rng(), buffers_untouched(modules) as moved:
        yield moved


@contextmanager
def buffers_untouched(modules: Sequence[nn.Module]) -> Iterator[list[bool]]:
    """Let a solve change copies of the buffers; afterwards the yielded list holds whether any copy changed."""
    plain = [module for module in modules if not isinstance(module, torch.jit.ScriptModule)]
    moved: list[bool] = []
    uncounted = [(Slot(vars(module), "track_running_stats"), False) for module in tracking_norms(plain)]
    copies = [(slot, slot.value().clone()) for module in plain for slot in buffer_slots(module)]
    originals = [slot.value() for slot, _ in copies]
    with replaced([*uncounted, *copies]):
        yield moved
        moved.append(any(differs(slot.value(), old) for (slot, _), old in zip(copies, originals, strict=True)))


def differs(a: Any, b: Tensor) -> bool:
    """Whether ``a`` is not a tensor with the shape and values of ``b``."""
    return not isinstance(a, Tensor) or a.shape != b.shape or not torch.equal(a, b)
