"""Gradient modes: where the backward pass takes the states of the forward pass from."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from odebackbones.ode.integrators import Integrator
from odebackbones.ode.schedule import Budget, first_snapshots, reversal
from odebackbones.ode.surroundings import RandomState, Surroundings, running_statistics_untouched

Snapshot = tuple[list[Tensor], RandomState]
"""A carry, and where the random generators stood with it."""


class CheckpointedSolve(torch.autograd.Function):
    """Keep the carry at the start of some steps; in the backward pass repeat the steps, each once with a graph.

    Exact: outputs and input gradients equal plain backprop's bit for bit. Memory: the snapshots and graphs of the
    budget. The parameters are inputs of the function, so that hooks on them (DDP's) fire once, as always.

    T. Chen, B. Xu, C. Zhang, C. Guestrin: Training Deep Nets with Sublinear Memory Cost, 2016, arXiv:1604.06174
    """

    @staticmethod
    def forward(ctx: Any, integrator: Integrator, allowed: Budget, state: Tensor, *parameters: Tensor) -> Tensor:
        """Solve without a graph."""
        ctx.integrator, ctx.allowed, ctx.surroundings = integrator, allowed, Surroundings(state.device)
        ctx.random_state = ctx.surroundings.random_state()
        ctx.save_for_backward(state, *parameters)
        with ctx.surroundings.casts():
            # On ctx, not among the saved tensors: the backward pass gives them up one by one.
            end, ctx.kept = keep_snapshots(integrator, state, allowed, ctx.surroundings)
        return end

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Repeat the steps in reverse order, each followed by its vector-Jacobian product."""
        state, *parameters = ctx.saved_tensors
        wanted = [p for p, needed in zip(parameters, ctx.needs_input_grad[3:], strict=True) if needed]
        surroundings, modules = ctx.surroundings, list(ctx.integrator.modules())
        find = differentiable_gradients if torch.is_grad_enabled() else recomputed_gradients
        with surroundings.casts(), surroundings.forked_random(), running_statistics_untouched(modules):
            of_state, of_parameters = find(ctx, state, wanted, gradients[0])
        found = iter(of_parameters)
        by_parameter = [next(found) if needed else None for needed in ctx.needs_input_grad[3:]]
        return None, None, of_state if ctx.needs_input_grad[2] else None, *by_parameter


Gradients = tuple[Tensor | None, Sequence[Tensor | None]]
"""With respect to the initial state, and to every parameter that wants one."""


def differentiable_gradients(ctx: Any, state: Tensor, parameters: Sequence[Tensor], gradient: Tensor) -> Gradients:
    """Gradients that can be differentiated again (``create_graph=True``): the solve is repeated with its graph."""
    ctx.surroundings.draw_from(ctx.random_state)
    inputs = [state, *parameters] if state.requires_grad else list(parameters)
    found = torch.autograd.grad(ctx.integrator(state), inputs, gradient, create_graph=True, allow_unused=True)
    return (found[0], found[1:]) if state.requires_grad else (None, found)


def recomputed_gradients(ctx: Any, state: Tensor, parameters: Sequence[Tensor], gradient: Tensor) -> Gradients:
    """Gradients by recomputation from the snapshots, which a first backward pass gives up."""
    kept, ctx.kept = ctx.kept, None
    if kept is None:  # a second backward pass (retain_graph=True)
        ctx.surroundings.draw_from(ctx.random_state)
        _, kept = keep_snapshots(ctx.integrator, state, ctx.allowed, ctx.surroundings)
    of_state, *of_parameters = reverse(ctx.integrator, kept, ctx.allowed, ctx.surroundings, parameters, gradient)
    return of_state, of_parameters


def keep_snapshots(
    integrator: Integrator, state: Tensor, allowed: Budget, surroundings: Surroundings
) -> tuple[Tensor, list[Snapshot]]:
    """Solve, and keep the carries that the schedule names; returns the end state and them."""
    steps = len(integrator.grid)
    wanted = set(first_snapshots(steps, allowed))
    carry, kept = [state], []
    with torch.no_grad():
        for i in range(steps):
            if i in wanted:
                kept.append((carry, surroundings.random_state()))
            carry = integrator.advance(i, carry)
    return carry[0], kept


def reverse(
    integrator: Integrator,
    kept: list[Snapshot],
    allowed: Budget,
    surroundings: Surroundings,
    parameters: Sequence[Tensor],
    gradient: Tensor,
) -> list[Tensor | None]:
    """The vector-Jacobian products of a whole solve with respect to its initial state and to ``parameters``.

    Args:
        integrator: Field and method.
        kept: The snapshots of :func:`keep_snapshots`; they are given up.
        allowed: How many there may be at one time, and how many graphs.
        surroundings: Of the forward pass.
        parameters: Those that want gradients.
        gradient: That of the end state.
    """
    sums = Sums(len(parameters))
    gradients: list[Tensor | None] = [gradient]
    for segment, advances in reversal(len(integrator.grid), allowed):
        carry, random_state = kept[-1]
        surroundings.draw_from(random_state)
        for start, target, keep in advances:
            with torch.no_grad():
                for i in range(start, target):
                    carry = integrator.advance(i, carry)
            if keep:
                kept.append((carry, surroundings.random_state()))
        if not advances or advances[-1].keep:
            kept.pop()
        graphs: list[Graph] = []
        for i in segment:
            graphs.append(step_graph(integrator, i, carry))
            carry = graphs[-1][1]
        while graphs:
            gradients = pull_back(*graphs.pop(), gradients, parameters, sums)
    return [gradients[0], *sums.totals]


Graph = tuple[list[Tensor], list[Tensor]]
"""The carries at the start and at the end of a step, joined by its graph."""


def step_graph(integrator: Integrator, i: int, carry: list[Tensor]) -> Graph:
    """Evaluate step ``i`` with a graph of its own."""
    start = [tensor.detach().requires_grad_(tensor.is_floating_point()) for tensor in carry]
    with torch.enable_grad():
        return start, integrator.advance(i, start)


def pull_back(
    start: list[Tensor], ends: list[Tensor], gradients: list[Tensor | None], parameters: Sequence[Tensor], sums: "Sums"
) -> list[Tensor | None]:
    """Turn the gradients of a step's end into those of its start, and add those of ``parameters`` to ``sums``."""
    pairs = [(end, g) for end, g in zip(ends, gradients, strict=True) if g is not None and end.requires_grad]
    leaves = [tensor for tensor in start if tensor.requires_grad]
    if not pairs:
        return [None] * len(start)
    found = torch.autograd.grad(
        [end for end, _ in pairs], [*leaves, *parameters], [g for _, g in pairs], allow_unused=True
    )
    sums.add(found[len(leaves) :])
    of_leaves = iter(found[: len(leaves)])
    return [next(of_leaves) if tensor.requires_grad else None for tensor in start]


class Sums:
    """Sums of gradients, step by step, where None stands for zero."""

    def __init__(self, length: int) -> None:
        self.totals: list[Tensor | None] = [None] * length

    def add(self, contributions: Sequence[Tensor | None], *, weight: float = 1.0) -> None:
        """Add one step's contributions, ``weight`` times."""
        for i, contribution in enumerate(contributions):
            total = self.totals[i]
            if contribution is None:
                continue
            if total is None:  # a tensor of our own: that of autograd may be another's gradient too
                self.totals[i] = weight * contribution
            else:
                total.add_(contribution, alpha=weight)
