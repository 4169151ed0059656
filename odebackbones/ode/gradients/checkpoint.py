"""Gradients from checkpoints: some states are kept, and the steps between them are evaluated again."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from odebackbones.ode.field_state import FieldState, Moment
from odebackbones.ode.graphs import Graph, graph_of
from odebackbones.ode.methods.base import Carry
from odebackbones.ode.replay import RandomState, ReplayContext
from odebackbones.ode.schedule import Capacity, first_snapshots, reversal


class Snapshot(NamedTuple):
    """A carry, with the random generators' states and the changing part of the field at that point."""

    carry: Carry
    random_state: RandomState
    moment: Moment


class Steps(NamedTuple):
    """A sequence of steps, whatever they compute."""

    number: int
    advance: Callable[[int, Carry], Carry]
    """Function from the carry before step ``i`` to the carry after it; at both ends the carry is the state alone."""

    def run(self, state: Tensor) -> Tensor:
        """Run all steps: ``(B, ...) -> (B, ...)``."""
        carry = [state]
        for i in range(self.number):
            carry = self.advance(i, carry)
        return carry[0]

    def graph(self, i: int, carry: Carry) -> Graph:
        """Evaluate step ``i`` with a graph of its own."""
        return graph_of(lambda start: self.advance(i, start), carry)


class Recomputation:
    """A solve without a graph, and what its backward pass needs to repeat it.

    Args:
        steps: Steps of the solve.
        allowed: Number of snapshots and graphs that may exist at one time.
        state: ``(B, ...)``
        inputs: What the field computes with.
    """

    def __init__(self, steps: Steps, allowed: Capacity, state: Tensor, inputs: FieldState) -> None:
        self.steps, self.allowed, self.inputs = steps, allowed, inputs
        self.context = ReplayContext(state.device, inputs.modules)
        with self.context.autocast():
            self.end, self.kept = self.solve(state, includes=True)
        self.first = self.kept[0]._replace(carry=[])
        inputs.settle()

    @torch.no_grad()
    def solve(self, state: Tensor, *, includes: bool = False) -> tuple[Tensor, list[Snapshot]]:
        """Solve, keep the carries that the schedule names, and return the end state and the snapshots.

        Args:
            state: ``(B, ...)``
            includes: Whether to find, in the graph of the first step, what else the solve depends on.
        """
        wanted = set(first_snapshots(self.steps.number, self.allowed))
        carry, kept = [state], []
        for i in range(self.steps.number):
            if i in wanted:
                moment = self.inputs.moment() if i else self.inputs.start
                kept.append(Snapshot(carry, self.context.rng_state(), moment))
            carry = self.first_step(carry) if includes and i == 0 else self.steps.advance(i, carry)
        return carry[0], kept

    def first_step(self, carry: Carry) -> Carry:
        """Advance by the first step, and make all that it depends on inputs of the solve.

        A compiled field is not compiled again for this: the backward pass refuses what else it depends on.
        """
        if self.inputs.is_compiled:
            return self.steps.advance(0, carry)
        graph = self.steps.graph(0, carry)
        self.inputs.include(graph, lambda: self.steps.advance(0, carry))
        return [tensor.detach() for tensor in graph.ends]

    def snapshot(self, carry: Carry) -> Snapshot:
        """Take a snapshot of the solve at this carry."""
        return Snapshot(carry, self.context.rng_state(), self.inputs.moment())

    def go_back_to(self, snapshot: Snapshot) -> None:
        """Restore random generators, buffers and switches."""
        self.context.restore_rng(snapshot.random_state)
        self.inputs.go_back_to(snapshot.moment)

    def take_snapshots(self, state: Tensor) -> list[Snapshot]:
        """Hand over the snapshots; a second backward pass (retain_graph=True) solves for them again."""
        kept, self.kept = self.kept, []
        if not kept:
            self.go_back_to(self.first)
            _, kept = self.solve(state)
        return kept


def solve_with_checkpoints(steps: Steps, allowed: Capacity, state: Tensor, inputs: FieldState) -> Tensor:
    """Return the end state ``(B, ...)``, with the gradients of :class:`CheckpointedSolve`.

    Args:
        steps: Steps of the solve.
        allowed: Number of snapshots and graphs that may exist at one time.
        state: ``(B, ...)``
        inputs: What the field computes with.
    """
    again = Recomputation(steps, allowed, state, inputs)
    return CheckpointedSolve.apply(again, state, *inputs.tensors)  # pyright: ignore[reportReturnType]


class CheckpointedSolve(torch.autograd.Function):
    """A solve that keeps the carry at the start of some steps; its backward pass repeats each step with a graph.

    Exact: outputs and input gradients equal plain backprop's bit for bit. Memory: the snapshots and graphs of the
    capacity. The parameters are inputs of the function, so that hooks on them (DDP's) fire once, as usual.

    T. Chen, B. Xu, C. Zhang, C. Guestrin: Training Deep Nets with Sublinear Memory Cost, 2016, arXiv:1604.06174
    """

    @staticmethod
    def forward(ctx: Any, again: Recomputation, state: Tensor, *tensors: Tensor) -> Tensor:
        """Return the end state of a finished solve."""
        ctx.again = again  # its snapshots are not saved tensors: the backward pass frees them one by one
        ctx.save_for_backward(state, *tensors)
        end, again.end = again.end, state.new_empty(0)  # or the graph would keep itself alive
        return end

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Repeat the steps in reverse order, each followed by its vector-Jacobian product."""
        again, (state, *tensors) = ctx.again, ctx.saved_tensors
        needed, twice = ctx.needs_input_grad[2:], torch.is_grad_enabled()
        find = differentiable_gradients if twice else recomputed_gradients
        with (
            again.context.autocast(),
            again.context.forked_rng(),
            again.inputs.restored(tensors, needed, itself=twice) as wanted,
        ):
            of_state, of_tensors = find(again, state, wanted, gradients[0])
        found = iter(of_tensors)
        by_tensor = [next(found) if is_needed else None for is_needed in needed]
        return None, of_state if ctx.needs_input_grad[1] else None, *by_tensor


Gradients = tuple[Tensor | None, Sequence[Tensor | None]]
"""Gradients with respect to the initial state, and to every other tensor that requires one."""


def differentiable_gradients(
    again: Recomputation, state: Tensor, parameters: Sequence[Tensor], gradient: Tensor
) -> Gradients:
    """Gradients that can be differentiated again (``create_graph=True``): the solve is repeated with its graph."""
    again.go_back_to(again.first)
    inlet = Inlet()
    start = inlet(state)
    inputs = [start, *parameters] if state.requires_grad else list(parameters)
    found = torch.autograd.grad(again.steps.run(start), inputs, gradient, create_graph=True, allow_unused=True)
    inlet.is_open = True
    return (found[0], found[1:]) if state.requires_grad else (None, found)


class Inlet:
    """The entrance of a state into a solve: until it is open, it stops gradients to what the state was computed from.

    Otherwise a field parameter from which the initial state was computed, too, would get that part twice.
    """

    def __init__(self) -> None:
        self.is_open = False

    def __call__(self, state: Tensor) -> Tensor:
        """Pass the state on: ``(B, ...)``."""
        return Passed.apply(state, self)  # pyright: ignore[reportReturnType]


class Passed(torch.autograd.Function):
    """The identity of an :class:`Inlet`."""

    @staticmethod
    def forward(ctx: Any, state: Tensor, inlet: Inlet) -> Tensor:
        """Return the state itself."""
        ctx.inlet = inlet
        return state.view_as(state)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None]:
        """Return the gradient, or None while the inlet is closed."""
        return (gradients[0] if ctx.inlet.is_open else None), None


def recomputed_gradients(
    again: Recomputation, state: Tensor, parameters: Sequence[Tensor], gradient: Tensor
) -> Gradients:
    """Gradients by recomputation from the snapshots, step by step from the last to the first."""
    kept, sums = again.take_snapshots(state), Sums(len(parameters))
    gradients: list[Tensor | None] = [gradient]
    for segment, advances in reversal(again.steps.number, again.allowed):
        again.go_back_to(kept[-1])
        carry = kept[-1].carry
        for start, target, keep in advances:
            with torch.no_grad():
                for i in range(start, target):
                    carry = again.steps.advance(i, carry)
            if keep:
                kept.append(again.snapshot(carry))
        if not advances or advances[-1].keep:
            kept.pop()
        graphs: list[Graph] = []
        for i in segment:
            graphs.append(again.steps.graph(i, carry))
            again.inputs.require_known(graphs[-1], parameters)
            carry = graphs[-1].ends
        while graphs:
            gradients = pull_back(graphs.pop(), gradients, parameters, sums)
    return gradients[0], sums.totals


def pull_back(
    graph: Graph, gradients: list[Tensor | None], parameters: Sequence[Tensor], sums: "Sums"
) -> list[Tensor | None]:
    """Pull gradients back from a step's end to its start, and add the gradients of ``parameters`` to ``sums``."""
    pairs = [(end, g) for end, g in zip(graph.ends, gradients, strict=True) if g is not None and end.requires_grad]
    leaves = [tensor for tensor in graph.start if tensor.requires_grad]
    if not pairs:
        return [None] * len(graph.start)
    found = torch.autograd.grad(
        [end for end, _ in pairs], [*leaves, *parameters], [g for _, g in pairs], allow_unused=True
    )
    sums.add(found[len(leaves) :])
    of_leaves = iter(found[: len(leaves)])
    return [next(of_leaves) if tensor.requires_grad else None for tensor in graph.start]


class Sums:
    """Sums of gradients, step by step, where None stands for zero."""

    def __init__(self, length: int) -> None:
        self.totals: list[Tensor | None] = [None] * length

    def add(self, contributions: Sequence[Tensor | None]) -> None:
        """Add one step's contributions."""
        for i, contribution in enumerate(contributions):
            total = self.totals[i]
            if contribution is None:
                continue
            if total is None:  # a copy: autograd may use the same tensor as another gradient, too
                self.totals[i] = contribution.clone()
            else:
                total.add_(contribution)
