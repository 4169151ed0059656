"""The continuous adjoint, by torchdiffeq: for fidelity to the paper, not for its gradient."""

import math
import warnings
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from odebackbones.ode.adaptive import AdaptiveIntegrator, ObservedField, ObservedSteps, step_options
from odebackbones.ode.devices import time_dtype
from odebackbones.ode.field_state import FieldState, buffers_untouched, without_trace
from odebackbones.ode.graphs import graph_of
from odebackbones.ode.integrators import Integrator
from odebackbones.ode.slots import modules_of
from odebackbones.ode.solvers import METHODS, SolverConfig
from odebackbones.ode.stats import SolverStats
from odebackbones.ode.surroundings import Surroundings

WARNED: set[str] = set()
"""The methods whose adjoint was warned of in this process."""


def solve_adjoint(
    integrator: Integrator, state: Tensor, solver: SolverConfig, *, field: FieldState, name: str
) -> tuple[Tensor, SolverStats]:
    """Solve forward without a graph, and get gradients by solving the adjoint equation backward.

    Its error is that of two different discretizations: the backward solve misses the states of the forward one.

    R. T. Q. Chen, Y. Rubanova, J. Bettencourt, D. Duvenaud: Neural Ordinary Differential Equations, NeurIPS 2018,
    arXiv:1806.07366; on its error: A. Gholami, K. Keutzer, G. Biros: ANODE, IJCAI 2019, arXiv:1902.10298
    """
    surroundings = Surroundings(state.device, field.modules)
    include_all(field, integrator, state, surroundings)
    field.forget_own()  # before its tensors are counted
    random_state = surroundings.random_state()
    observe = ObservedSteps if isinstance(integrator, AdaptiveIntegrator) else ObservedField
    observed = observe(integrator, surroundings, solver.max_nfe, name, state=field, tensors=field.views())
    with observed.explaining(solver.method), buffers_untouched(field.modules) as moved:
        end = torchdiffeq_adjoint(observed, state, integrator.ends(), solver)
    field.cut_results({id(tensor) for tensor in field.tensors})
    if solver.method not in WARNED:
        WARNED.add(solver.method)
        warn_of_error(integrator, state, end, solver)
    steps = observed.accepted_steps() if isinstance(observed, ObservedSteps) else integrator
    nfe = 1 + observed.nfe
    if any(moved):
        field.buffers.moving.update(range(len(field.buffers.slots)))
    if any(moved) or field.uncounted:  # they must see the steps as in every other gradient mode
        surroundings.draw_from(random_state)
        with torch.no_grad():
            steps(state)
        nfe += sum(steps.evaluations())
    nfe_backward = observed.nfe if steps is integrator else None
    return end, SolverStats(nfe, nfe_backward, len(steps.grid), observed.rejected)


def include_all(field: FieldState, integrator: Integrator, state: Tensor, surroundings: Surroundings) -> None:
    """Let all that an evaluation depends on be inputs of the solve."""
    t0 = integrator.ends()[0]
    with without_trace(field.modules, state.device), surroundings.casts():
        graph = graph_of(lambda states: [integrator.slope(t0, states[0])], [state])
        field.include(graph, lambda: integrator.slope(t0, graph.start[0]))


def torchdiffeq_adjoint(
    observed: ObservedField, state: Tensor, t_span: tuple[float, float], solver: SolverConfig
) -> Tensor:
    """The end state, by torchdiffeq's adjoint method, with the solver's equal steps or tolerances."""
    import torchdiffeq  # not before it is used: it brings scipy, half a second

    method = METHODS[solver.method]
    times = torch.tensor(t_span, dtype=time_dtype(state.device), device=state.device)
    options = step_options(observed.integrator, times)
    adjoint_options = {"dtype": times.dtype} if isinstance(observed.integrator, AdaptiveIntegrator) else {}
    tolerances: dict[str, Any] = {"rtol": solver.rtol, "atol": solver.atol}
    if solver.steps is not None:
        fractions = torch.linspace(0.0, 1.0, solver.steps + 1, dtype=times.dtype, device=times.device)
        options = adjoint_options = {"grid_constructor": lambda _, y, t: torch.lerp(t[0], t[-1], fractions.to(t))}
        tolerances = {}
    states = torchdiffeq.odeint_adjoint(
        observed,
        state,
        times,
        **tolerances,
        method=method.torchdiffeq,
        options=options,
        adjoint_options=adjoint_options,
        adjoint_params=tuple(observed.tensors),
    )
    return states[-1]  # pyright: ignore[reportReturnType] (no tuple comes of a tensor)


@torch.no_grad()
def warn_of_error(integrator: Integrator, state: Tensor, end: Tensor, solver: SolverConfig) -> None:
    """Say what the adjoint is, and by how much its way back misses the initial state."""
    observed = ObservedField(integrator, Surroundings(state.device), None, "")
    t0, t1 = integrator.ends()
    with without_trace(modules_of(integrator), state.device):
        try:
            found = torchdiffeq_adjoint(observed, end.detach(), (t1, t0), replace(solver, max_nfe=None))
        except AssertionError:  # torchdiffeq's, of a solve that explodes
            found = torch.full_like(state, math.inf)
    missed = float((found - state).norm() / state.norm().clamp_min(torch.finfo(state.dtype).tiny))
    warnings.warn(
        f"gradient='adjoint' is not the gradient of this solve: on its way back {solver.method} misses the initial "
        f"state by {100 * missed:.2g} % here, and gradients err more; 'checkpoint' is exact and needs little memory "
        f"(said once a method)",
        stacklevel=2,
    )
