"""Fixed-point states, whose additions are exact and can be undone to the last bit."""

from typing import NamedTuple

import torch
from torch import Tensor

from odebackbones.ode.devices import require_float64
from odebackbones.ode.grids import Grid
from odebackbones.ode.integrators import Integrator, VectorField
from odebackbones.ode.shears import Scheme, Shears


class Format(NamedTuple):
    """How numbers are kept as whole multiples of a quantum."""

    storage: torch.dtype
    bits: int
    """The quantum is 2^-bits of the least power of two above the initial state's largest number."""
    limit: float
    """Quanta up to which additions are exact."""
    increments: torch.dtype
    """In which increments are computed before they are rounded to whole quanta."""


FORMATS: dict[str, Format] = {
    "int32": Format(torch.int32, 24, 2.0**31, torch.float32),
    "float64": Format(torch.float64, 44, 2.0**53, torch.float64),
}
"""``state_dtype`` -> format: float32's precision of the largest number with room for it to grow 128 times, in half of
float64's size; or 20 bits more, for fields in float64, and for what grows up to 512 times."""

DEFAULT_FORMAT = "int32"


def exponent(state: Tensor, form: Format) -> Tensor:
    """The quantum's power of two for a solve from ``state: (B, ...)``: a whole number ``()``, got without waiting."""
    return torch.frexp(state.detach().abs().amax().to(form.increments)).exponent - form.bits


def quanta(power: Tensor, form: Format, magnitudes: tuple[float, float]) -> list[Tensor]:
    """The quantum of each of a pair, a power of two: ``() -> 2 x ()``."""
    quantum = torch.ldexp(torch.ones((), dtype=form.increments, device=power.device), power)
    return [quantum * magnitude for magnitude in magnitudes]


def increment(slope: Tensor, scale: Tensor, form: Format) -> Tensor:
    """``slope`` times a weight over the quantum, ``scale: ()``: in quanta, not yet rounded."""
    return torch.mul(slope.to(form.increments), scale)


class FixedPointShears(Shears):
    """A reversible method on fixed-point numbers, for autograd: whole numbers in float64, rounded straight through.

    Gives the states, bit for bit, that :class:`~odebackbones.ode.reversible.ReversibleSolve` has and reconstructs.

    Args:
        vector_field: The field.
        scheme: The method's shears.
        grid: Start and length of every step.
        form: The format of the numbers.
    """

    def __init__(self, vector_field: VectorField, *, scheme: Scheme, grid: Grid, form: Format) -> None:
        super().__init__(vector_field, scheme=scheme, grid=grid)
        self.form = form

    def start(self, state: Tensor) -> list[Tensor]:
        """The pair in quanta, the power of two that these are, and an empty tensor of the state's dtype.

        Raises:
            InputError: The state's device has no float64.
        """
        require_float64(state.device, what="a state in fixed point (gradient='reversible', or state_dtype)")
        power = exponent(state, self.form)
        unit = quanta(power, self.form, self.magnitudes)[0]
        pair = super().start(straight_round(state.to(self.form.increments) / unit).double())
        return [*pair, power, state.new_empty(0)]

    def step(self, i: int, carry: list[Tensor]) -> list[Tensor]:
        """The pair after step ``i``; the rest of the carry stays."""
        pair, units, dtype = carry[:2], quanta(carry[2], self.form, self.magnitudes), carry[3].dtype
        for target, source, factor, weight, evaluates, t in self.plan[i]:
            slope = pair[source].to(self.form.increments) * units[source]
            if evaluates:
                slope = self.slope(t, slope.to(dtype))
            added = straight_round(increment(slope, weight / units[target], self.form))
            pair[target] = factor * pair[target] + added
        return [*pair, *carry[2:]]

    def finish(self, carry: list[Tensor]) -> Tensor:
        """The final state, in the initial one's dtype."""
        units = quanta(carry[2], self.form, self.magnitudes)
        end = super().finish([number * unit for number, unit in zip(carry[:2], units, strict=True)])
        return end.to(carry[3].dtype)


def in_fixed_point(integrator: Integrator) -> FixedPointShears:
    """The reversible method on fixed-point numbers, of the default format if it has none."""
    if isinstance(integrator, FixedPointShears):
        return integrator
    assert isinstance(integrator, Shears)
    field, scheme, grid = integrator.vector_field, integrator.scheme, integrator.grid
    return FixedPointShears(field, scheme=scheme, grid=grid, form=FORMATS[DEFAULT_FORMAT])


def straight_round(x: Tensor) -> Tensor:
    """Whole numbers forward, the identity backward."""
    return x + (x.round() - x).detach()
