"""The cost of a solve."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SolverStats:
    """Cost of one solve, counted by the solver.

    Attributes:
        nfe: Evaluations of the vector field in the forward pass, including the search for adaptive steps.
        nfe_backward: Evaluations that the backward pass adds (recomputation); 0 if no gradient was asked for, None
            if only the backward pass itself can tell (``adjoint`` with an adaptive method).
        steps: Accepted steps.
        rejected: Rejected steps (adaptive methods; 0 on a fixed grid).
    """

    nfe: int
    nfe_backward: int | None
    steps: int
    rejected: int = 0

    def __add__(self, other: "SolverStats") -> "SolverStats":
        """Return the total cost of two solves."""
        unknown = self.nfe_backward is None or other.nfe_backward is None
        return SolverStats(
            nfe=self.nfe + other.nfe,
            nfe_backward=None if unknown else (self.nfe_backward or 0) + (other.nfe_backward or 0),
            steps=self.steps + other.steps,
            rejected=self.rejected + other.rejected,
        )
