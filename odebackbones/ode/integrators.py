"""Solvers on a fixed grid: the loop over the steps, and the methods that fill in a step.

All are modules and plain loops over floats, so that torch.fx, TorchScript, torch.export and ONNX follow them. What a
method hands from step to step is its *carry*: the state, and whatever else it remembers.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from odebackbones.errors import InputError, SolverError
from odebackbones.ode.adams import adams_bashforth_weights
from odebackbones.ode.evaluation import evaluate
from odebackbones.ode.grids import Grid
from odebackbones.ode.tableaus import Tableau
from odebackbones.ode.tuples import parts

VectorField = Callable[[float, Tensor], Tensor]
"""``vector_field(t, state) -> d state / dt``, with ``t`` a Python float and both tensors of one shape.

A float, because the times of a fixed grid are constants of the graph: nothing to trace, copy or wait for.
"""


class Integrator(nn.Module):
    """A method, unrolled over a fixed grid; a subclass says what a step is.

    Args:
        vector_field: The field; if it is a module, it becomes a submodule.
        grid: Start and length of every step.
        times: The times at which each step evaluates the field.

    Shape:
        ``state: (B, ...) -> (B, ...)``
    """

    grid: list[tuple[float, float]]
    times: list[list[float]]

    def __init__(self, vector_field: VectorField, *, grid: Grid, times: list[list[float]]) -> None:
        super().__init__()
        self.vector_field = vector_field
        self.grid = grid
        self.times = times
        self.inspects = True  # until a solve has shown that the field leaves its input alone

    @torch.jit.unused
    def ends(self) -> tuple[float, float]:
        """The start and the end of the time span."""
        return self.grid[0][0], sum(self.grid[-1])

    @torch.jit.unused
    def evaluations(self) -> list[int]:
        """Evaluations of the vector field in each step."""
        return [len(times) for times in self.times]

    def slope(self, t: float, state: Tensor) -> Tensor:
        """The field at a time and a state; checked, where that is no part of a graph."""
        if torch.jit.is_scripting():
            return self.vector_field(t, state)
        else:  # noqa: RET505 (TorchScript compiles no other branch)
            return self.checked_slope(t, state)

    @torch.jit.unused
    def checked_slope(self, t: float, state: Tensor) -> Tensor:
        """As :func:`~odebackbones.ode.evaluation.evaluate`."""
        return evaluate(self.vector_field, t, state, inspect=self.inspects)

    def start(self, state: Tensor) -> list[Tensor]:
        """The first carry, from the initial state."""
        return [state]

    def step(self, i: int, carry: list[Tensor]) -> list[Tensor]:
        """The carry after step ``i`` from the one before it."""
        raise NotImplementedError(f"{type(self).__name__} says no step")

    def finish(self, carry: list[Tensor]) -> Tensor:
        """The state at the end of the grid, from the last carry."""
        return carry[0]

    def forward(self, state: Tensor) -> Tensor:
        """The state at the end of the grid from the one at its start."""
        carry = self.start(state)
        for i in range(len(self.grid)):
            carry = self.step(i, carry)
        return self.finish(carry)

    @torch.jit.unused
    def advance(self, i: int, carry: list[Tensor]) -> list[Tensor]:
        """As :meth:`step`, the start being a part of the first step and the finish of the last: state to state."""
        carry = self.step(i, self.start(carry[0]) if i == 0 else carry)
        return [self.finish(carry)] if i == len(self.grid) - 1 else carry


def combine(state: Tensor, slopes: list[Tensor], weights: list[float], h: float) -> Tensor:
    """``state + h * sum_j weights[j] * slopes[j]`` with one new tensor, into which the later slopes are added."""
    fresh = False
    for slope, weight in zip(slopes, weights):  # noqa: B905 (TorchScript knows no `strict`)
        if weight != 0.0:
            state = state.add_(slope, alpha=h * weight) if fresh else torch.add(state, slope, alpha=h * weight)
            fresh = True
    return state


def last_uses(tableau: Tableau) -> list[int]:
    """For each slope the last stage that it is part of; the step's end counts as one more stage."""
    rows = [*tableau.a, tableau.b]
    return [max((i for i, row in enumerate(rows) if j < len(row) and row[j]), default=j) for j in range(len(tableau.b))]


class RungeKutta(Integrator):
    r"""An explicit Runge-Kutta method; projected or not.

    A projected one ends every stage and step on the nearest state without negative numbers, and so solves the
    projected dynamical system :math:`x' = \Pi_{\ge 0}(x, f(t, x))`. Its Euler step
    :math:`x_{n+1} = \max(0, x_n + h f(t_n, x_n))` is the residual block whose ReLU follows the addition.

    P. Dupuis, A. Nagurney: Dynamical Systems and Variational Inequalities, Annals of Operations Research 44, 1993

    Args:
        vector_field: The field.
        tableau: The method's coefficients.
        grid: Start and length of every step.
        projected: Whether to project.
    """

    a: list[list[float]]
    b: list[float]
    last_uses: list[int]
    projected: bool

    def __init__(self, vector_field: VectorField, *, tableau: Tableau, grid: Grid, projected: bool = False) -> None:
        super().__init__(vector_field, grid=grid, times=[[t + c * h for c in tableau.c] for t, h in grid])
        self.a = [list(row) for row in tableau.a]
        self.b = list(tableau.b)
        self.last_uses = last_uses(tableau)
        self.projected = projected

    def slopes(self, i: int, state: Tensor) -> list[Tensor]:
        """The slopes of step ``i`` from ``state``."""
        h = self.grid[i][1]
        times = self.times[i]
        slopes: list[Tensor] = []
        for stage in range(len(times)):
            slopes.append(self.slope(times[stage], self.stage_state(stage, state, slopes, h)))
        return slopes

    def stage_state(self, stage: int, state: Tensor, slopes: list[Tensor], h: float) -> Tensor:
        """Where a stage's slope is evaluated; slopes that are not used after it give way to ``state``, for memory."""
        found = self.combine(state, slopes, self.a[stage], h)
        for j in range(stage):
            if self.last_uses[j] == stage:
                slopes[j] = state
        return found

    def step(self, i: int, carry: list[Tensor]) -> list[Tensor]:
        """The state at the end of step ``i`` from the one at its start."""
        return [self.combine(carry[0], self.slopes(i, carry[0]), self.b, self.grid[i][1])]

    def combine(self, state: Tensor, slopes: list[Tensor], weights: list[float], h: float) -> Tensor:
        """As :func:`combine`, and projected if this method is."""
        end = combine(state, slopes, weights, h)
        return F.relu(end, inplace=True) if self.projected and len(slopes) > 0 else end


class ReusedSlope(RungeKutta):
    """A Runge-Kutta method whose steps begin with the last slope of the step before, instead of a new one.

    As torchdiffeq's adaptive_heun does: Heun's method in the mode "predict, evaluate, correct". The carry is the state
    and that slope.
    """

    def __init__(self, vector_field: VectorField, *, tableau: Tableau, grid: Grid) -> None:
        super().__init__(vector_field, tableau=tableau, grid=grid)
        self.times[1:] = [times[1:] for times in self.times[1:]]

    def start(self, state: Tensor) -> list[Tensor]:
        """The state and its slope."""
        return [state, self.slope(self.grid[0][0], state)]

    def step(self, i: int, carry: list[Tensor]) -> list[Tensor]:
        """The state and the latest slope at the end of step ``i``."""
        h, slopes = self.grid[i][1], [carry[1]]
        for t in self.times[i][-(len(self.b) - 1) :]:
            slopes.append(self.slope(t, combine(carry[0], slopes, self.a[len(slopes)], h)))
        return [combine(carry[0], slopes, self.b, h), slopes[-1]]


class AdamsBashforth(RungeKutta):
    r"""The explicit k-step method of Adams: :math:`x_{n+1} = x_n + h_n \sum_{j<k} w_{nj} f(t_{n-j}, x_{n-j})`.

    The weights follow the grid, even or not. The first k - 1 steps are Runge-Kutta steps of order k.
    The carry is the state and the slopes at the earlier times, the latest first.

    E. Hairer, S. P. Nørsett, G. Wanner: Solving Ordinary Differential Equations I, 2nd ed., 1993, chapter III.5
    (variable step sizes).

    Args:
        vector_field: The field.
        order: k.
        starter: Tableau of the first steps.
        grid: Start and length of every step.
    """

    a: list[list[float]]  # TorchScript reads a class's own annotations only
    weights: list[list[float]]

    def __init__(self, vector_field: VectorField, *, order: int, starter: Tableau, grid: Grid) -> None:
        super().__init__(vector_field, tableau=starter, grid=grid)
        self.order = order
        self.last_uses = [starter.stages] * starter.stages  # the first slope is used in later steps
        self.weights = adams_bashforth_weights(grid, order)
        self.times[order - 1 :] = [[t] for t, _ in grid[order - 1 :]]

    def step(self, i: int, carry: list[Tensor]) -> list[Tensor]:
        """The state after step ``i``, and the latest slopes."""
        state, latest, h = carry[0], carry[1:], self.grid[i][1]
        if i < self.order - 1:
            slopes = self.slopes(i, state)
            latest.insert(0, slopes[0])
            end = combine(state, slopes, self.b, h)
        else:
            latest.insert(0, self.slope(self.times[i][0], state))
            end = combine(state, latest, self.weights[i], h)
        following = latest[: self.order - 1]
        following.insert(0, end)
        return following


class LinearTwoStep(Integrator):
    r"""LM-ResNet: :math:`x_{n+1} = (1 - k_n) x_n + k_n x_{n-1} + h f(t_n, x_n)` with a learnable :math:`k_n` a step.

    All :math:`k_n` are zero at first, which is Euler's method. A constant k solves
    :math:`(1 + k) x' = f`: time runs the slower, the greater k (the paper's modified equation).

    Y. Lu, A. Zhong, Q. Li, B. Dong: Beyond Finite Layer Neural Networks: Bridging Deep Architectures and Numerical
    Differential Equations, ICML 2018, arXiv:1710.10121
    """

    def __init__(self, vector_field: VectorField, *, grid: Grid) -> None:
        super().__init__(vector_field, grid=grid, times=[[t] for t, _ in grid])
        like = next(self.parameters(), torch.empty(0))
        self.coefficients = nn.Parameter(torch.zeros(len(grid), device=like.device, dtype=like.dtype))

    @torch.jit.unused
    def take_coefficients(self, other: "LinearTwoStep") -> None:
        """Go on with the coefficients of ``other``.

        Raises:
            InputError: They belong to other steps.
        """
        if other.grid != self.grid:
            raise InputError("the coefficients of solver 'lm' belong to its steps: keep them, or take another method")
        self.coefficients = other.coefficients

    def start(self, state: Tensor) -> list[Tensor]:
        """The state twice: before the first step it has not moved."""
        return [state, state]

    def step(self, i: int, carry: list[Tensor]) -> list[Tensor]:
        """The states at the end and at the start of step ``i``."""
        t, h = self.grid[i]
        state, previous = carry[0], carry[1]
        coefficient = self.coefficients[i].to(state.dtype)
        moved = torch.lerp(state, previous, coefficient)
        return [torch.add(moved, self.slope(t, state), alpha=h), state]


class ImplicitEulerSeries(Integrator):
    r"""Backward Euler by its truncated series: :math:`x_{n+1} = \sum_{k \le d} (h F)^k x_n \approx (I - h F)^{-1} x_n`.

    F is the field at the step's start (the iterations take it at the end, as the method has it), so that of degree 1
    this is Euler's method, and of degree 2 PolyNet's block I + F + F² of every step's own F. Powers are compositions,
    hence a solver for fields with f(t, 0) = 0.

    X. Zhang, Z. Li, C. C. Loy, D. Lin: PolyNet: A Pursuit of Structural Diversity in Very Deep Networks, CVPR 2017,
    arXiv:1611.05725

    Args:
        vector_field: The field.
        degree: d, the evaluations in a step.
        grid: Start and length of every step.
    """

    def __init__(self, vector_field: VectorField, *, degree: int, grid: Grid) -> None:
        super().__init__(vector_field, grid=grid, times=[[t] * degree for t, _ in grid])
        self.degree = degree

    def step(self, i: int, carry: list[Tensor]) -> list[Tensor]:
        """The state at the end of step ``i`` from the one at its start."""
        h = self.grid[i][1]
        power, total = carry[0], carry[0]
        for k in range(self.degree):
            slope = self.slope(self.times[i][k], power)
            total = torch.add(total, slope, alpha=h)
            if k + 1 < self.degree:
                power = h * slope
        return [total]


class ConvergenceError(SolverError):
    """Iterations that don't converge, before it is known whose they are."""


def not_recordable(method: str) -> InputError:
    """Say that nothing can record a method whose evaluations depend on the state."""
    return InputError(
        f"solver {method!r} decides on the way what it evaluates, which no traced, scripted or compiled graph can "
        f"follow; change it first, odebackbones.change_solver(model, 'rk4', steps=...), or compile its fields alone, "
        f"odebackbones.compile_fields(model)"
    )


class ImplicitEuler(Integrator):
    r"""Backward Euler, :math:`x_{n+1} = x_n + h f(t_n + h, x_{n+1})`, by fixed-point iterations to a tolerance.

    They converge where h times the field's Lipschitz constant is below 1. How many a step takes is known when it has
    been taken; ``times`` then tells.

    Args:
        vector_field: The field.
        rtol: Relative tolerance: iterations stop at a change below atol + rtol |x| (maximum norms, of every
            tensor of a tuple).
        atol: Absolute tolerance.
        max_nfe: Evaluations that a solve may take, or None.
        grid: Start and length of every step.
    """

    MAX_ITERATIONS = 100

    def __init__(self, vector_field: VectorField, *, rtol: float, atol: float, max_nfe: int | None, grid: Grid) -> None:
        super().__init__(vector_field, grid=grid, times=[[t + h] for t, h in grid])
        self.max_nfe = max_nfe
        self.rtol = rtol
        self.atol = atol

    def step(self, i: int, carry: list[Tensor]) -> list[Tensor]:
        """The state at the end of step ``i`` from the one at its start."""
        t, h = self.grid[i]
        end, used = carry[0], sum(map(len, self.times[:i]))
        allowed = self.MAX_ITERATIONS if self.max_nfe is None else min(self.MAX_ITERATIONS, self.max_nfe - used)
        for iteration in range(1, allowed + 1):
            previous, end = end, torch.add(carry[0], self.slope(t + h, end), alpha=h)
            if self.converged(previous.detach(), end.detach()):
                self.times[i] = [t + h] * iteration
                return [end]
        more = "" if self.max_nfe is None else f"a larger max_nfe than {self.max_nfe}, "
        raise ConvergenceError(
            f"implicit_euler: no convergence in {allowed} fixed-point iterations of step {i + 1} of {len(self.grid)} "
            f"(t = {t + h:g}, {used} evaluations before it); take more steps, a looser rtol, {more}or degree=... for "
            f"the truncated series"
        )

    def __prepare_scriptable__(self) -> "ImplicitEuler":
        raise not_recordable("implicit_euler")

    def converged(self, previous: Tensor, latest: Tensor) -> bool:
        """Whether an iteration changed little; one that is not finite is left to the check of the end state."""
        pairs = zip(parts(self.vector_field, previous), parts(self.vector_field, latest), strict=True)
        return all(self.is_near(before, after) for before, after in pairs if after.numel())

    def is_near(self, previous: Tensor, latest: Tensor) -> bool:
        """As :meth:`converged`, of one tensor."""
        change, size = (latest - previous).abs().max(), latest.abs().max()
        return bool((change <= self.atol + self.rtol * size) | ~torch.isfinite(size))
