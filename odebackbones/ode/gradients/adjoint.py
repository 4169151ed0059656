"""The continuous adjoint, by torchdiffeq: for fidelity to the paper, not for its gradient."""

import math
import warnings
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from odebackbones.ode.adaptive import ObservedField, ObservedSteps, step_options
from odebackbones.ode.devices import time_dtype
from odebackbones.ode.evaluation import CheckedField
from odebackbones.ode.field_state import FieldState, buffers_untouched, without_trace
from odebackbones.ode.graphs import graph_of
from odebackbones.ode.guards import can_check, require_finite
from odebackbones.ode.methods.adaptive import AdaptiveMethod
from odebackbones.ode.methods.base import Method
from odebackbones.ode.replay import ReplayContext
from odebackbones.ode.slots import modules_of
from odebackbones.ode.solvers import METHODS, SolverConfig, is_adaptive
from odebackbones.ode.stats import SolverStats

WARNED: set[str] = set()
"""Methods about whose adjoint this process has warned."""


def solve_adjoint(
    field: CheckedField,
    method: Method | AdaptiveMethod,
    state: Tensor,
    solver: SolverConfig,
    *,
    inputs: FieldState,
    name: str,
) -> tuple[Tensor, SolverStats]:
    """Solve forward without a graph, and get gradients by solving the adjoint equation backward.

    The gradients err because there are two discretizations: the backward solve misses the states of the forward solve.

    R. T. Q. Chen, Y. Rubanova, J. Bettencourt, D. Duvenaud: Neural Ordinary Differential Equations, NeurIPS 2018,
    arXiv:1806.07366; on its error: A. Gholami, K. Keutzer, G. Biros: ANODE, IJCAI 2019, arXiv:1902.10298
    """
    context = ReplayContext(state.device, inputs.modules)
    include_all(inputs, field, method.t_span[0], state, context)
    inputs.forget_own()  # before its tensors are taken as inputs
    rng_state = context.rng_state()
    observe = ObservedSteps if isinstance(method, AdaptiveMethod) else ObservedField
    observed = observe(field, context, solver.max_nfe, name, inputs=inputs, tensors=inputs.views())
    with observed.explaining(solver.method), buffers_untouched(inputs.modules) as moved:
        end = torchdiffeq_adjoint(observed, state, method.t_span, solver)
    inputs.cut_results({id(tensor) for tensor in inputs.tensors})
    if solver.method not in WARNED:
        WARNED.add(solver.method)
        warn_of_error(field, method.t_span, state, end, solver)
    steps = method if isinstance(method, Method) else observed.accepted_steps(method)
    if solver.check_finite and can_check(end):
        require_finite(field, steps, state, end, name=name)
    nfe = 1 + observed.nfe
    if any(moved):
        inputs.buffers.moving.update(range(len(inputs.buffers.slots)))
    if any(moved) or inputs.uncounted:  # buffers must see the steps, as in every other mode
        context.restore_rng(rng_state)
        with torch.no_grad():
            steps.solve(field, state)
        nfe += sum(steps.evaluations())
    nfe_backward = observed.nfe if steps is method else None
    return end, SolverStats(nfe, nfe_backward, len(steps.grid), observed.rejected)


def include_all(inputs: FieldState, field: CheckedField, t0: float, state: Tensor, context: ReplayContext) -> None:
    """Make everything that an evaluation depends on an input of the solve."""
    with without_trace(inputs.modules, state.device), context.autocast():
        graph = graph_of(lambda states: [field(t0, states[0])], [state])
        inputs.include(graph, lambda: field(t0, graph.start[0]))


def torchdiffeq_adjoint(
    observed: ObservedField, state: Tensor, t_span: tuple[float, float], solver: SolverConfig
) -> Tensor:
    """Compute the end state by torchdiffeq's adjoint method, with the solver's equal steps or tolerances."""
    import torchdiffeq  # imported only when used: it imports scipy, which takes half a second

    method = METHODS[solver.method]
    times = torch.tensor(t_span, dtype=time_dtype(state.device), device=state.device)
    if is_adaptive(solver):
        adjoint_options: dict[str, Any] = {"dtype": times.dtype}
        options = step_options(observed.field, times) | adjoint_options
        tolerances: dict[str, Any] = {"rtol": solver.rtol, "atol": solver.atol}
    else:
        assert solver.steps is not None
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
def warn_of_error(
    field: CheckedField, t_span: tuple[float, float], state: Tensor, end: Tensor, solver: SolverConfig
) -> None:
    """Warn that the adjoint is inexact, and by how much its backward solve misses the initial state."""
    observed = ObservedField(field, ReplayContext(state.device), None, "")
    with without_trace(modules_of(field.vector_field), state.device):
        try:
            found = torchdiffeq_adjoint(observed, end.detach(), (t_span[1], t_span[0]), replace(solver, max_nfe=None))
        except AssertionError:  # torchdiffeq raises it if a solve explodes
            found = torch.full_like(state, math.inf)
    missed = float((found - state).norm() / state.norm().clamp_min(torch.finfo(state.dtype).tiny))
    warnings.warn(
        f"gradient='adjoint' is not the gradient of this solve: on its way back {solver.method} misses the initial "
        f"state by {100 * missed:.2g} % here, and gradients err more; 'checkpoint' is exact and needs little memory "
        f"(said once a method)",
        stacklevel=2,
    )
