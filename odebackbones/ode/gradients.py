"""Gradient modes: where the backward pass takes the states of the forward pass from."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from odebackbones.ode.solvers import RungeKutta


class Surroundings:
    """What a recomputation must find again to repeat a step: the autocast state and, per step, the RNG's."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.autocast = torch.is_autocast_enabled(device.type)
        self.autocast_dtype = torch.get_autocast_dtype(device.type)

    def casts(self) -> torch.autocast:
        """Autocast as it was, without its cache: a weight's cast made under no_grad must not serve a graph."""
        return torch.autocast(self.device.type, self.autocast_dtype, self.autocast, cache_enabled=False)

    def rng_state(self) -> tuple[Tensor, Tensor | None]:
        """The generators' states on the CPU and on the state's GPU."""
        return torch.get_rng_state(), torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None

    @contextmanager
    def random_as(self, state: tuple[Tensor, Tensor | None]) -> Iterator[None]:
        """Draw inside as at ``state``, and leave the generators as they were."""
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.set_rng_state(state[0])
            if state[1] is not None:
                torch.cuda.set_rng_state(state[1], self.device)
            yield


@contextmanager
def running_statistics_untouched(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Let normalisation layers use batch statistics without counting the batch a second time."""
    tracking = [m for m in modules if m.training and getattr(m, "track_running_stats", False)]
    try:
        for module in tracking:
            module.track_running_stats = False  # pyright: ignore[reportArgumentType]
        yield
    finally:
        for module in tracking:
            module.track_running_stats = True  # pyright: ignore[reportArgumentType]


class CheckpointedSolve(torch.autograd.Function):
    """Keep the state at the start of each step; in the backward pass repeat the step with a graph.

    Exact: outputs and input gradients equal plain backprop's bit for bit. Memory: one state a step and the graph
    of one step. The parameters are inputs of the function, so that hooks on them (DDP's) fire once, as always.

    T. Chen, B. Xu, C. Zhang, C. Guestrin: Training Deep Nets with Sublinear Memory Cost, 2016, arXiv:1604.06174
    """

    @staticmethod
    def forward(ctx: Any, integrator: RungeKutta, state: Tensor, *parameters: Tensor) -> Tensor:
        """Solve without a graph."""
        ctx.integrator, ctx.surroundings = integrator, Surroundings(state.device)
        states, ctx.rng_states = [], []
        with ctx.surroundings.casts():
            for t, h in integrator.grid:
                states.append(state)
                ctx.rng_states.append(ctx.surroundings.rng_state())
                state = integrator.step(t, h, state)
        ctx.save_for_backward(*states, *parameters)
        return state

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Repeat the steps in reverse order, each followed by its vector-Jacobian product."""
        steps = len(ctx.integrator.grid)
        states, parameters = ctx.saved_tensors[:steps], ctx.saved_tensors[steps:]
        wanted = [i for i, p in enumerate(parameters) if ctx.needs_input_grad[2 + i]]
        sums: list[Tensor | None] = [None] * len(parameters)
        gradient = gradients[0]
        for i in reversed(range(steps)):
            gradient, *contributions = step_gradients(ctx, i, states[i], [parameters[j] for j in wanted], gradient)
            for j, contribution in zip(wanted, contributions, strict=True):
                sums[j] = add(sums[j], contribution)
        return None, gradient if ctx.needs_input_grad[1] else None, *sums


def add(total: Tensor | None, contribution: Tensor | None) -> Tensor | None:
    """The sum of two gradients, where None stands for zero."""
    if total is None or contribution is None:
        return contribution if total is None else total
    return total + contribution


def step_gradients(ctx: Any, i: int, state: Tensor, parameters: list[Tensor], gradient: Tensor) -> list[Any]:
    """Vector-Jacobian products of step ``i`` with respect to its start state and to ``parameters``."""
    integrator, surroundings = ctx.integrator, ctx.surroundings
    start = state.detach().requires_grad_()
    with (
        torch.enable_grad(),
        surroundings.casts(),
        surroundings.random_as(ctx.rng_states[i]),
        running_statistics_untouched(list(integrator.modules())),
    ):
        end = integrator.step(*integrator.grid[i], start)
    return list(torch.autograd.grad(end, [start, *parameters], gradient, allow_unused=True))


def needs_checkpoint(state: Tensor, parameters: Sequence[Tensor]) -> bool:
    """Whether a backward pass can follow; not while a graph is being recorded for export."""
    recording = not isinstance(state, Tensor) or torch.jit.is_tracing() or torch.compiler.is_compiling()
    if recording or not torch.is_grad_enabled():
        return False
    return state.requires_grad or any(p.requires_grad for p in parameters)


def solve(integrator: RungeKutta, state: Tensor, *, gradient: str, parameters: Sequence[Tensor]) -> tuple[Tensor, int]:
    """Integrate in the given gradient mode.

    Args:
        integrator: The unrolled method.
        state: ``(B, ...)``
        gradient: A name in :data:`~odebackbones.ode.solvers.GRADIENTS`.
        parameters: What the vector field depends on.

    Returns:
        The end state ``(B, ...)`` and the evaluations that its backward pass will add.
    """
    if gradient == "checkpoint" and needs_checkpoint(state, parameters):
        return CheckpointedSolve.apply(integrator, state, *parameters), integrator.nfe  # pyright: ignore[reportReturnType]
    return integrator(state), 0
