"""The base of all methods: times that are known before a solve, and a step from carry to carry.

A method holds no field: the field is an argument of every step, so that torch.fx, torch.export and ONNX see plain
calls. A method does not change itself; only the copy of :meth:`Method.for_solve` takes notes. The *carry* is the state,
and whatever else a method remembers between steps.
"""

from collections.abc import Callable

from torch import Tensor

from odebackbones.errors import InputError
from odebackbones.ode.grids import Grid

VectorField = Callable[[float, Tensor], Tensor]
"""``vector_field(t, state) -> d state / dt``, with ``t`` a Python float and both tensors of the same shape.

The time is a float, because the times of a fixed grid are constants of the graph: nothing to trace, copy or wait for.
"""

Carry = list[Tensor]
"""The state ``(B, ...)`` first, then what the method remembers."""


class Method:
    """A method on a fixed grid; a subclass defines the step.

    Args:
        grid: Start and length of every step.
        times: The times at which each step evaluates the field.
    """

    def __init__(self, *, grid: Grid, times: list[list[float]]) -> None:
        self.grid = grid
        self.times = times

    @property
    def t_span(self) -> tuple[float, float]:
        """Start and end, up to rounding."""
        return self.grid[0][0], sum(self.grid[-1])

    def evaluations(self) -> list[int]:
        """Number of evaluations of the vector field in each step."""
        return [len(times) for times in self.times]

    def for_solve(self) -> "Method":
        """Return the method for one solve: a copy if it takes notes during the solve."""
        return self

    def start(self, field: VectorField, state: Tensor) -> Carry:
        """Build the first carry from the initial state."""
        return [state]

    def step(self, field: VectorField, i: int, carry: Carry) -> Carry:
        """Compute the carry after step ``i`` from the carry before it."""
        raise NotImplementedError(f"{type(self).__name__} does not define a step")

    def finish(self, carry: Carry) -> Tensor:
        """Compute the state at the end of the grid from the last carry."""
        return carry[0]

    def solve(self, field: VectorField, state: Tensor) -> Tensor:
        """Solve from the start to the end of the grid: ``(B, ...) -> (B, ...)``."""
        carry = self.start(field, state)
        for i in range(len(self.grid)):
            carry = self.step(field, i, carry)
        return self.finish(carry)

    def advance(self, field: VectorField, i: int, carry: Carry) -> Carry:
        """Advance as :meth:`step`, with the start in the first step and the finish in the last: state to state."""
        carry = self.step(field, i, self.start(field, carry[0]) if i == 0 else carry)
        return [self.finish(carry)] if i == len(self.grid) - 1 else carry


def not_recordable(method: str) -> InputError:
    """Build the error for recording a method whose evaluations depend on the state."""
    return InputError(
        f"solver {method!r} decides on the way what it evaluates, which no traced or compiled graph can follow; change "
        f"it first, odebackbones.change_solver(model, 'rk4', steps=...), or compile its fields alone, "
        f"odebackbones.compile_fields(model)"
    )
