"""Fixed-point states, whose additions are exact and can be undone to the last bit."""

from typing import NamedTuple

import torch
from torch import Tensor

from odebackbones.ode.devices import require_float64
from odebackbones.ode.grids import Grid
from odebackbones.ode.methods.base import Carry, Method, VectorField
from odebackbones.ode.methods.reversible import ReversibleMethod, Scheme


class Format(NamedTuple):
    """A format that keeps numbers as whole multiples of a quantum."""

    storage: torch.dtype
    bits: int
    """The quantum is 2^-bits times the least power of two above the initial state's largest number."""
    limit: float
    """Number of quanta up to which additions are exact."""
    increments: torch.dtype
    """Dtype in which increments are computed before they are rounded to whole quanta."""


FORMATS: dict[str, Format] = {
    "int32": Format(torch.int32, 24, 2.0**31, torch.float32),
    "float64": Format(torch.float64, 44, 2.0**53, torch.float64),
}
"""``state_dtype`` -> format: ``int32`` has float32's precision for the largest number, room for it to grow 128 times,
and half of float64's size; ``float64`` has 20 bits more, for fields in float64, and room to grow 512 times."""

DEFAULT_FORMAT = "int32"


def exponent(state: Tensor, form: Format) -> Tensor:
    """Compute, without waiting, the quantum's power of two for a solve from ``state: (B, ...)``: an integer ``()``."""
    return torch.frexp(state.detach().abs().amax().to(form.increments)).exponent - form.bits


def quanta(power: Tensor, form: Format, magnitudes: tuple[float, float]) -> list[Tensor]:
    """The quantum of each tensor of a pair, a power of two: ``() -> 2 x ()``."""
    quantum = torch.ldexp(torch.ones((), dtype=form.increments, device=power.device), power)
    return [quantum * magnitude for magnitude in magnitudes]


def increment(slope: Tensor, scale: Tensor, form: Format) -> Tensor:
    """Compute ``slope`` times ``scale: ()`` (the weight divided by the quantum): in quanta, not yet rounded."""
    return torch.mul(slope.to(form.increments), scale)


class FixedPointReversibleMethod(ReversibleMethod):
    """A reversible method on fixed-point numbers, for autograd: whole numbers in float64, rounded straight through.

    Its states equal, bit for bit, the states that :class:`~odebackbones.ode.gradients.reversible.ReversibleSolve`
    computes and reconstructs.

    Args:
        scheme: The method's updates.
        grid: Start and length of every step.
        form: Format of the numbers.
    """

    def __init__(self, *, scheme: Scheme, grid: Grid, form: Format) -> None:
        super().__init__(scheme=scheme, grid=grid)
        self.form = form

    def start(self, field: VectorField, state: Tensor) -> Carry:
        """Return the pair in quanta, the quantum's power of two, and an empty tensor of the state's dtype.

        Raises:
            InputError: The state's device has no float64.
        """
        require_float64(state.device, what="a state in fixed point (gradient='reversible', or state_dtype)")
        power = exponent(state, self.form)
        unit = self.units(power)[0]
        pair = super().start(field, straight_round(state.to(self.form.increments) / unit).double())
        return [*pair, power, state.new_empty(0)]

    def units(self, power: Tensor) -> list[Tensor]:
        """The quantum of each tensor of the pair, a power of two: ``() -> 2 x ()``."""
        return quanta(power, self.form, self.scheme.magnitudes)

    def step(self, field: VectorField, i: int, carry: Carry) -> Carry:
        """Return the pair after step ``i``, with the rest of the carry unchanged."""
        pair, units, dtype = carry[:2], self.units(carry[2]), carry[3].dtype
        for target, source, factor, weight, evaluates, t in self.scheme.steps[i]:
            slope = pair[source].to(self.form.increments) * units[source]
            if evaluates:
                slope = field(t, slope.to(dtype))
            added = straight_round(increment(slope, weight / units[target], self.form))
            pair[target] = factor * pair[target] + added
        return [*pair, *carry[2:]]

    def finish(self, carry: Carry) -> Tensor:
        """Return the final state, in the initial state's dtype."""
        pair = zip(carry[:2], self.units(carry[2]), strict=True)
        return super().finish([number * unit for number, unit in pair]).to(carry[3].dtype)


def in_fixed_point(method: Method) -> FixedPointReversibleMethod:
    """Return the reversible method on fixed-point numbers, in the default format if it has none."""
    if isinstance(method, FixedPointReversibleMethod):
        return method
    assert isinstance(method, ReversibleMethod)
    return FixedPointReversibleMethod(scheme=method.scheme, grid=method.grid, form=FORMATS[DEFAULT_FORMAT])


def straight_round(x: Tensor) -> Tensor:
    """Round to whole numbers forward, and pass the gradient unchanged backward."""
    return x + (x.round() - x).detach()
