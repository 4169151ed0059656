"""Memory and time of the gradient modes, compared with plain backprop through a hand-written loop."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
import torchdiffeq
from torch import Tensor, nn

from benchmarks.engine.fields import measured_fields
from benchmarks.measurement import Claim, Part, times_over
from engine.measure.profile import peak_memory_mib
from engine.report.records import Table
from odebackbones.ode import SolverConfig, odeint

SHORT, LONG, LOOP = 4, 64, 16
LOOP_ROUNDS = 5
MIB = 2**20

MODES: dict[str, SolverConfig] = {
    "backprop": SolverConfig("euler", gradient="backprop"),
    "checkpoint, every step": SolverConfig("euler"),
    "checkpoint, sqrt": SolverConfig("euler", checkpoints="sqrt"),
    "checkpoint, 4 snapshots": SolverConfig("euler", checkpoints=4),
    "reversible leapfrog": SolverConfig("leapfrog", gradient="reversible"),
    "reversible leapfrog, float64": SolverConfig("leapfrog", gradient="reversible", state_dtype="float64"),
}
BARE, TORCHDIFFEQ, ADJOINT = "bare loop", "torchdiffeq odeint", "torchdiffeq odeint_adjoint"
FORWARD = "forward pass of the bare loop"
LOOP_BOUNDS = {BARE: 1.03, TORCHDIFFEQ: 1.0}
"""Reference -> largest allowed ratio of our plain loop's time to the reference's time: 1, up to noise."""

Solve = Callable[[nn.Module, Tensor, int], Tensor]


def bare_loop(field: nn.Module, state: Tensor, steps: int) -> Tensor:
    """Integrate by a hand-written Euler loop."""
    h = 1.0 / steps
    for i in range(steps):
        state = state + h * field(i * h, state)
    return state


def by_torchdiffeq(solve: Callable[..., Any]) -> Solve:
    """Return a solve by torchdiffeq's Euler method."""

    def run(field: nn.Module, state: Tensor, steps: int) -> Tensor:
        class Timed(nn.Module):  # our fields take a float
            def __init__(self) -> None:
                super().__init__()
                self.field = field

            def forward(self, t: Tensor, x: Tensor) -> Tensor:
                return self.field(float(t.detach()), x)

        times = torch.tensor([0.0, 1.0])
        return solve(Timed(), state, times, method="euler", options={"step_size": 1.0 / steps})[-1]

    return run


def by_engine(solver: SolverConfig) -> Solve:
    """Return a solve by our engine in one of its modes."""

    def run(field: nn.Module, state: Tensor, steps: int) -> Tensor:
        return odeint(field, state, solver=replace(solver, steps=steps)).state

    return run


SOLVES: dict[str, Solve] = {
    BARE: bare_loop,
    TORCHDIFFEQ: by_torchdiffeq(torchdiffeq.odeint),
    ADJOINT: by_torchdiffeq(torchdiffeq.odeint_adjoint),
    **{name: by_engine(solver) for name, solver in MODES.items()},
}


def training_step(solve: Solve, field: nn.Module, state: Tensor, steps: int) -> None:
    """Run a forward and backward pass; the gradient of the loss takes memory, as with most losses."""
    field.zero_grad(set_to_none=True)
    F.mse_loss(solve(field, state.detach().requires_grad_(), steps), state).backward()


def memory_in_states(field: nn.Module, state: Tensor, steps: int) -> dict[str, float]:
    """Return the peak memory of a training step, in multiples of the state's size."""
    size = state.numel() * state.element_size() / MIB
    return {
        name: peak_memory_mib(lambda s=solve: training_step(s, field, state, steps), state.device) / size
        for name, solve in SOLVES.items()
    }


def training_times(field: nn.Module, state: Tensor, *, rounds: int) -> dict[str, float]:
    """Return CPU times of a training step with the long solve, and of a graph-free forward pass, over the bare loop's.

    Half of the batch is used, to fit in more rounds.
    """
    state = state[: len(state) // 2]

    def forward_only() -> None:
        with torch.no_grad():
            bare_loop(field, state, LONG)

    calls = {name: lambda s=solve: training_step(s, field, state, LONG) for name, solve in SOLVES.items()}
    ratios, _ = times_over(BARE, {**calls, FORWARD: forward_only}, rounds=rounds)
    return ratios


def loop_times(field: nn.Module, state: Tensor, *, rounds: int) -> dict[str, float]:
    """Return reference -> CPU time of a training step with our plain loop over the time with the reference loop.

    The loops differ by less than the machine's noise, so the solves are short and many.
    """
    state = state[: len(state) // 2]
    names = (BARE, TORCHDIFFEQ, "backprop")
    calls = {name: lambda s=SOLVES[name]: training_step(s, field, state, LOOP) for name in names}
    found = {}
    for reference in names[:2]:
        pair = {name: calls[name] for name in (reference, "backprop")}
        found[reference] = times_over(reference, pair, rounds=LOOP_ROUNDS * rounds)[0]["backprop"]
    return found


def measure(name: str, field: nn.Module, state: Tensor, *, rounds: int) -> tuple[Table, list[Claim]]:
    """Measure one field; return its table and claims."""
    short, long = (memory_in_states(field, state, steps) for steps in (SHORT, LONG))
    ratio = training_times(field, state, rounds=rounds)
    growth = {mode: long[mode] / short[mode] for mode in SOLVES}
    saved = {mode: long[BARE] / long[mode] for mode in SOLVES}
    rows = tuple((mode, short[mode], long[mode], growth[mode], saved[mode], ratio[mode]) for mode in SOLVES)
    title = (
        f"{name}: memory [states], CPU time of half the batch at N={LONG} "
        f"(forward is {ratio[FORWARD]:.2f} of backprop: {1 + ratio[FORWARD]:.2f} is the floor of recomputing all)"
    )
    columns = ("mode", f"N={SHORT}", f"N={LONG}", "growth", "less than bare loop", "time over bare loop")
    claims = [
        Claim(f"{name}: memory growth, reversible", growth["reversible leapfrog"], 1.005),
        Claim(f"{name}: memory growth, 4 snapshots", growth["checkpoint, 4 snapshots"], 1.25),
        Claim(f"{name}: memory growth, sqrt", growth["checkpoint, sqrt"], 2.2),
        Claim(f"{name}: times less memory than backprop, sqrt", saved["checkpoint, sqrt"], 9.0, at_least=True),
        Claim(
            f"{name}: times less memory than backprop, reversible", saved["reversible leapfrog"], 11.0, at_least=True
        ),
        Claim(f"{name}: time, checkpoint of every step", ratio["checkpoint, every step"], 1.35),
        Claim(f"{name}: time, checkpoint sqrt", ratio["checkpoint, sqrt"], 1.6),
        Claim(f"{name}: time, reversible", ratio["reversible leapfrog"], 1.45),
        *(
            Claim(f"{name}: time, backprop over {reference}", found, LOOP_BOUNDS[reference])
            for reference, found in loop_times(field, state, rounds=rounds).items()
        ),
    ]
    return Table(title, columns, rows), claims


def run(rounds: int) -> Part:
    """Measure with torch's current number of threads."""
    tables, claims = [], []
    for name, (field, state) in measured_fields().items():
        table, found = measure(name, field, state, rounds=rounds)
        tables.append(table)
        claims += found
    return Part(tuple(tables), tuple(claims))
