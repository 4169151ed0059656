"""Settings of what a classifier's report tries, in addition to the model as it was trained."""

from dataclasses import dataclass, field

from odebackbones.errors import InputError, unknown_name
from odebackbones.ode import METHODS
from odebackbones.transfer import TRIED_STEPS


@dataclass(frozen=True)
class EvalConfig:
    """Other solvers for the same weights: accuracy, time and memory over steps or tolerance.

    Args:
        solvers: Solvers to try, e.g. ``[euler, midpoint]`` or ``[dopri5]``; none by default.
        steps: Numbers of steps to try, for methods with fixed steps.
        tolerances: Relative and absolute tolerances to try, for adaptive methods.
        calibration: Number of training images from which norm statistics per time are estimated again for every solver;
            0 interpolates the trained statistics.
    """

    solvers: list[str] = field(default_factory=list)
    steps: list[int] = field(default_factory=lambda: list(TRIED_STEPS))
    tolerances: list[float] = field(default_factory=lambda: [1e-1, 1e-2, 1e-3, 1e-4, 1e-5])
    calibration: int = 0

    def __post_init__(self) -> None:
        for name in self.solvers:
            if name not in METHODS:
                raise unknown_name("solver in eval.solvers", name, METHODS)
        if any(steps < 1 for steps in self.steps):
            raise InputError(f"eval.steps={self.steps}: expected numbers of at least 1")
        if any(not tolerance > 0 for tolerance in self.tolerances):
            raise InputError(f"eval.tolerances={self.tolerances}: expected positive numbers")
        if self.calibration < 0:
            raise InputError(f"eval.calibration={self.calibration}: expected at least 0 images")
