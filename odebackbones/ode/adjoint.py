"""The continuous adjoint, by torchdiffeq: for fidelity to the paper, not for its gradient."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from odebackbones.ode.adaptive import AdaptiveIntegrator, ObservedField, ObservedSteps
from odebackbones.ode.field_state import FieldState, buffers_untouched
from odebackbones.ode.integrators import Integrator
from odebackbones.ode.solvers import METHODS, SolverConfig
from odebackbones.ode.stats import SolverStats
from odebackbones.ode.surroundings import Surroundings

WARNED: set[str] = set()
"""The methods whose adjoint was warned of in this process."""


def solve_adjoint(
    integrator: Integrator, state: Tensor, solver: SolverConfig, *, field: FieldState, name: str
) -> tuple[Tensor, SolverStats]:
    """Solve forward without a graph, and get gradients by solving the adjoint equation backward.

    Its error is that of two different discretisations: the backward solve misses the states of the forward one.

    R. T. Q. Chen, Y. Rubanova, J. Bettencourt, D. Duvenaud: Neural Ordinary Differential Equations, NeurIPS 2018,
    arXiv:1806.07366; on its error: A. Gholami, K. Keutzer, G. Biros: ANODE, IJCAI 2019, arXiv:1902.10298
    """
    surroundings = Surroundings(state.device)
    random_state = surroundings.random_state()
    observe = ObservedSteps if isinstance(integrator, AdaptiveIntegrator) else ObservedField
    observed = observe(integrator, surroundings, solver.max_nfe, name, field=field)
    with observed.explaining(solver.method), buffers_untouched(integrator.modules()) as moved:
        end = torchdiffeq_adjoint(observed, state, integrator.ends(), solver, parameters=field.tensors)
    if solver.method not in WARNED:
        WARNED.add(solver.method)
        warn_of_error(integrator, state, end, solver)
    steps = observed.accepted_steps() if isinstance(observed, ObservedSteps) else integrator
    nfe = observed.nfe
    if any(moved):
        field.moving.update(range(len(field.buffer_slots)))
    if any(moved) or field.uncounted:  # they must see the steps as in every other gradient mode
        surroundings.draw_from(random_state)
        with torch.no_grad():
            steps(state)
        nfe += sum(steps.evaluations())
    nfe_backward = observed.nfe if steps is integrator else None
    return end, SolverStats(nfe, nfe_backward, len(steps.grid), observed.rejected)


def torchdiffeq_adjoint(
    observed: ObservedField,
    state: Tensor,
    t_span: tuple[float, float],
    solver: SolverConfig,
    *,
    parameters: Sequence[Tensor] = (),
) -> Tensor:
    """The end state, by torchdiffeq's adjoint method, with the solver's equal steps or tolerances."""
    import torchdiffeq  # not before it is used: it brings scipy, half a second

    method = METHODS[solver.method]
    times = torch.tensor(t_span, dtype=torch.float64, device=state.device)
    options, adjoint_options = {"step_t": times[1:]}, {}
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
        adjoint_params=tuple(parameters),
    )
    return states[-1]  # pyright: ignore[reportReturnType] (no tuple comes of a tensor)


@torch.no_grad()
def warn_of_error(integrator: Integrator, state: Tensor, end: Tensor, solver: SolverConfig) -> None:
    """Say what the adjoint is, and by how much its way back misses the initial state."""
    surroundings = Surroundings(state.device)
    observed = ObservedField(integrator, surroundings, None, "")
    t0, t1 = integrator.ends()
    with surroundings.forked_random(), buffers_untouched(integrator.modules()):
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
