"""Initial value problems with known solutions, as data."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

ROTATION = torch.tensor([[-0.3, -2.0], [2.0, -0.3]], dtype=torch.float64)


class Problem(NamedTuple):
    """``x'(t) = vector_field(t, x)``, ``x(t_span[0]) = state``, with ``solution(t, state) = x(t)``."""

    vector_field: Callable[[float, Tensor], Tensor]
    solution: Callable[[float, Tensor], Tensor]
    state: Tensor
    t_span: tuple[float, float] = (0.0, 1.0)

    def end(self) -> Tensor:
        """The exact state at the end of the time span."""
        return self.solution(self.t_span[1], self.state)


PROBLEMS: dict[str, Problem] = {
    "linear decay": Problem(
        vector_field=lambda t, x: -1.5 * x,
        solution=lambda t, x: x * math.exp(-1.5 * t),
        state=torch.tensor([[1.0, -0.5, 2.0]], dtype=torch.float64),
    ),
    "damped rotation": Problem(
        vector_field=lambda t, x: x @ ROTATION.to(x.dtype).T,
        solution=lambda t, x: x @ torch.linalg.matrix_exp(t * ROTATION).T,
        state=torch.tensor([[1.0, 0.0], [0.3, -0.7]], dtype=torch.float64),
    ),
    "growth at a rate cos t": Problem(
        vector_field=lambda t, x: math.cos(t) * x,
        solution=lambda t, x: x * math.exp(math.sin(t)),
        state=torch.tensor([[0.5, 1.0, -2.0]], dtype=torch.float64),
        t_span=(0.0, 1.0),
    ),
    "logistic growth": Problem(
        vector_field=lambda t, x: x * (1.0 - x),
        solution=lambda t, x: x / (x + (1.0 - x) * math.exp(-t)),
        state=torch.tensor([[0.1, 0.3, 1.7]], dtype=torch.float64),
        t_span=(0.0, 2.0),
    ),
    "linear decay, backward in time": Problem(
        vector_field=lambda t, x: -1.5 * x,
        solution=lambda t, x: x * math.exp(1.5 * (1.0 - t)),
        state=torch.tensor([[1.0, -0.5]], dtype=torch.float64),
        t_span=(1.0, 0.0),
    ),
    "rate cos t, backward in time": Problem(
        vector_field=lambda t, x: math.cos(t) * x,
        solution=lambda t, x: x * math.exp(math.sin(t) - math.sin(1.0)),
        state=torch.tensor([[0.5, 1.0]], dtype=torch.float64),
        t_span=(1.0, -1.0),
    ),
}


class CountedDecay(nn.Module):
    """``x' = rate x`` with ``x(t) = x0 exp(rate t)``; it writes down the times of its evaluations."""

    def __init__(self, rate=-0.7, dtype=torch.float64):
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(rate, dtype=dtype))
        self.times = []

    def forward(self, t, x):
        self.times.append(t)
        return self.rate * x


class Turning(nn.Module):
    """A small field with weights and a dependence on time."""

    def __init__(self, dtype=torch.float64):
        super().__init__()
        weight = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        self.weight = nn.Parameter(weight.to(dtype))

    def forward(self, t, x):
        return torch.tanh((1.0 + t) * x @ self.weight)
