"""Gradients with a memory that does not grow with the steps: the states are reconstructed exactly, last to first."""

from typing import Any

import torch
from torch import Tensor

from odebackbones.errors import InputError
from odebackbones.ode.fixed_point import FixedPointShears, increment, quanta
from odebackbones.ode.gradients import Sums
from odebackbones.ode.shears import Shear
from odebackbones.ode.surroundings import Surroundings, running_statistics_untouched


class ReversibleSolve(torch.autograd.Function):
    """Keep the last pair only, and undo the shears one by one in the backward pass.

    The pair is in fixed point, so that undoing an addition gives back every bit, whatever the field's dtype, autocast
    included. One evaluation serves the reconstruction and the vector-Jacobian product. The field is evaluated with a
    graph in both passes: a compiled one has another kernel for either, whose last bits may differ.
    """

    @staticmethod
    def forward(ctx: Any, integrator: FixedPointShears, state: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Solve: ``(B, ...) -> (B, ...), ()``: the end, and the largest number that may have been, over its limit."""
        ctx.integrator, ctx.surroundings = integrator, Surroundings(state.device)
        ctx.dtype, ctx.random_states = state.dtype, []
        carry = integrator.start(state)
        numbers = [z.to(integrator.form.storage, copy=True) for z in carry[:2]]
        pair = FixedPair(integrator, numbers, carry[2], state.dtype)
        pair.follow(carry[:2])
        with ctx.surroundings.casts():
            for step in integrator.scheme.steps:
                for shear in step:
                    if shear.evaluates:
                        ctx.random_states.append(ctx.surroundings.random_state())
                    pair.apply(shear)
        ctx.save_for_backward(*parameters, carry[2], *pair.numbers)
        end = integrator.finish([*(z.double() for z in pair.numbers), *carry[2:]])
        reached = torch.where(end.isfinite().all(), pair.reached() / integrator.form.limit, torch.inf)
        end.masked_fill_(~(reached < 1.0), torch.nan)  # integers would hide it from who checks nothing
        ctx.mark_non_differentiable(reached)
        return end, reached

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """Undo the shears from the last to the first, each with its vector-Jacobian product."""
        if torch.is_grad_enabled():
            raise InputError(
                "gradient='reversible' has no second derivatives (create_graph=True): "
                "use gradient='backprop' or 'checkpoint'"
            )
        *parameters, power, first, second = ctx.saved_tensors
        wanted = [p for p, needed in zip(parameters, ctx.needs_input_grad[2:], strict=True) if needed]
        integrator, surroundings = ctx.integrator, ctx.surroundings
        pair = FixedPair(integrator, [first.clone(), second.clone()], power, ctx.dtype)
        gradients = PairGradients(integrator, gradient, wanted)
        random_states = list(ctx.random_states)
        modules = list(integrator.modules())
        with surroundings.casts(), surroundings.forked_random(), running_statistics_untouched(modules):
            for step in reversed(integrator.scheme.steps):
                for shear in reversed(step):
                    if shear.evaluates:
                        surroundings.draw_from(random_states.pop())
                    gradients.pull_back(shear, pair.undo(shear))
        found = iter(gradients.sums.totals)
        by_parameter = [next(found) if needed else None for needed in ctx.needs_input_grad[2:]]
        start = gradients.of_initial_state().to(ctx.dtype)
        return None, start if ctx.needs_input_grad[1] else None, *by_parameter


class FixedPair:
    """The pair of a reversible method in fixed point, changed in place.

    Args:
        integrator: Field, method and format.
        numbers: The pair in whole quanta; it is ours.
        power: The quantum's power of two.
        dtype: Of the states that the field sees.
    """

    def __init__(self, integrator: FixedPointShears, numbers: list[Tensor], power: Tensor, dtype: torch.dtype) -> None:
        self.integrator, self.numbers, self.dtype = integrator, numbers, dtype
        self.form = integrator.form
        self.units = quanta(power, self.form, integrator.magnitudes)
        self.scales: dict[tuple[float, int], Tensor] = {}
        self.latest: list[tuple[Tensor, Tensor]] = []
        self.extremes: list[Tensor] = []

    def follow(self, start: list[Tensor]) -> None:
        """Note from now on how large the numbers are, which at first are ``start``: in integers, NaN can't be told."""
        self.latest = [torch.aminmax(z) for z in start]

    def apply(self, shear: Shear) -> None:
        """Do the shear, and note how large its numbers are."""
        added = self.added(shear, self.slope(shear)[1].detach())
        if self.latest:
            self.extremes += [*self.latest[shear.target], *torch.aminmax(added)]
        z, d = self.numbers[shear.target], added.to(self.form.storage)
        self.numbers[shear.target] = z = z.add_(d) if shear.factor == 1.0 else torch.sub(d, z, out=z)
        if self.latest:
            self.latest[shear.target] = torch.aminmax(z)

    def reached(self) -> Tensor:
        """The largest number that any addition so far may have given: ``()``."""
        return torch.stack(self.extremes).double().abs().reshape(-1, 2, 2).amax(2).sum(1).amax()

    def undo(self, shear: Shear) -> tuple[Tensor, Tensor]:
        """Undo the shear; returns the point at which the field was evaluated and the slope there, with its graph."""
        point, slope = self.slope(shear)
        z, d = self.numbers[shear.target], self.added(shear, slope.detach()).to(self.form.storage)
        self.numbers[shear.target] = z.sub_(d) if shear.factor == 1.0 else torch.sub(d, z, out=z)
        return point, slope

    def slope(self, shear: Shear) -> tuple[Tensor, Tensor]:
        """The source's state and the field there, or the source itself."""
        source = self.numbers[shear.source].to(self.form.increments, copy=True).mul_(self.units[shear.source])
        if not shear.evaluates:
            return source, source
        point = source.to(self.dtype).requires_grad_()
        with torch.enable_grad():
            return point, self.integrator.vector_field(shear.t, point)

    def added(self, shear: Shear, slope: Tensor) -> Tensor:
        """What the shear adds, in whole quanta."""
        key = shear.weight, shear.target
        if key not in self.scales:
            self.scales[key] = shear.weight / self.units[shear.target]
        return increment(slope, self.scales[key], self.form).round_()


class PairGradients:
    """The gradients of a pair and of the parameters, pulled back shear by shear.

    Args:
        integrator: Field and method.
        gradient: That of the end state.
        parameters: Those that want gradients.
    """

    def __init__(self, integrator: FixedPointShears, gradient: Tensor, parameters: list[Tensor]) -> None:
        self.integrator, self.parameters, self.sums = integrator, parameters, Sums(len(parameters))
        gradient = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
        self.pair: list[Tensor | None] = [weight * gradient if weight else None for weight in integrator.output]

    def pull_back(self, shear: Shear, evaluated: tuple[Tensor, Tensor]) -> None:
        """Pull the gradients back through a shear: ``g_source += weight * J^T g_target``."""
        outer = self.pair[shear.target]
        if outer is None:
            return
        point, slope = evaluated
        if shear.evaluates:
            if slope.requires_grad:
                inner, *contributions = torch.autograd.grad(
                    slope, [point, *self.parameters], outer.to(slope.dtype), allow_unused=True
                )
                self.sums.add(contributions, weight=shear.weight)
                self.add(shear.source, inner, shear.weight)
        else:
            self.add(shear.source, outer, shear.weight)
        self.pair[shear.target] = outer if shear.factor == 1.0 else -outer

    def add(self, index: int, gradient: Tensor | None, weight: float) -> None:
        """Add to the gradient of one of the pair."""
        if gradient is None:
            return
        total = self.pair[index]
        if total is None:
            self.pair[index] = weight * gradient.to(torch.promote_types(gradient.dtype, torch.float32))
        else:
            total.add_(gradient, alpha=weight)  # ours: all that come in are multiplied first

    def of_initial_state(self) -> Tensor:
        """The gradient of the state from which the pair was made."""
        parts = [
            g * weight for g, weight in zip(self.pair, self.integrator.initial, strict=True) if g is not None and weight
        ]
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]
