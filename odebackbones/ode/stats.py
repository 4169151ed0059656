"""What a solve cost."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SolverStats:
    """Cost of one solve, counted by the solver.

    Attributes:
        nfe: Evaluations of the vector field in the forward pass.
        nfe_backward: Evaluations that the backward pass adds (recomputation); 0 if no gradient was asked for.
        steps: Accepted steps.
        rejected: Rejected steps (adaptive methods; 0 on a fixed grid).
    """

    nfe: int
    nfe_backward: int
    steps: int
    rejected: int = 0
