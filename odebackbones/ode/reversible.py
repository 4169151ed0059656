"""Gradients with a memory that does not grow with the steps: the states are reconstructed exactly, last to first."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from odebackbones.errors import InputError
from odebackbones.ode.field_state import FieldState, Moment
from odebackbones.ode.fixed_point import FixedPointShears, increment, quanta
from odebackbones.ode.gradients import Sums
from odebackbones.ode.graphs import Graph, graph_of
from odebackbones.ode.shears import Shear
from odebackbones.ode.surroundings import RandomState, Surroundings


class Reconstruction:
    """A solve in fixed point, and what its backward pass needs to undo it.

    Args:
        integrator: Field and method.
        state: ``(B, ...)``
        field: What the field computes with.

    Attributes:
        end: ``(B, ...)``
        reached: The largest number that there may have been, over the format's limit: ``()``.
        numbers: The quantum's power of two, and the last pair in quanta.
    """

    def __init__(self, integrator: FixedPointShears, state: Tensor, field: FieldState) -> None:
        self.integrator, self.field, self.dtype = integrator, field, state.dtype
        self.surroundings = Surroundings(state.device, field.modules)
        self.before: list[tuple[RandomState, Moment]] = []  # each evaluation
        with torch.no_grad(), self.surroundings.casts():
            self.solve(state)
        field.settle()

    def solve(self, state: Tensor) -> None:
        """Do the shears."""
        integrator = self.integrator
        carry = integrator.start(state)
        numbers = [z.to(integrator.form.storage, copy=True) for z in carry[:2]]
        pair = FixedPair(integrator, numbers, carry[2], state.dtype)
        pair.follow(carry[:2])
        for step in integrator.scheme.steps:
            for shear in step:
                if shear.evaluates:
                    moment = self.field.moment() if self.before else self.field.start
                    self.before.append((self.surroundings.random_state(), moment))
                pair.apply(shear, self.evaluated(pair, shear))
        end = integrator.finish([*(z.double() for z in pair.numbers), *carry[2:]])
        self.reached = torch.where(end.isfinite().all(), pair.reached() / integrator.form.limit, torch.inf)
        end.masked_fill_(~(self.reached < 1.0), torch.nan)  # integers would hide it from who checks nothing
        self.end, self.numbers = end, [carry[2], *pair.numbers]

    def evaluated(self, pair: "FixedPair", shear: Shear) -> Tensor:
        """The slope, or the source itself; all that the first evaluation depends on is an input of the solve."""
        graph = pair.evaluated(shear)
        if shear.evaluates and len(self.before) == 1:
            [point] = graph.start
            self.field.include(graph, lambda: self.integrator.slope(shear.t, point))
        return graph.ends[0].detach()

    def undo(self, numbers: Sequence[Tensor], gradients: "PairGradients") -> None:
        """Undo the shears from the last to the first, each with its vector-Jacobian product; ``numbers`` stay."""
        power, *pair_numbers = numbers
        pair = FixedPair(self.integrator, [z.clone() for z in pair_numbers], power, self.dtype)
        before = list(self.before)
        for step in reversed(self.integrator.scheme.steps):
            for shear in reversed(step):
                if shear.evaluates:
                    random_state, moment = before.pop()
                    self.surroundings.draw_from(random_state)
                    self.field.go_back_to(moment)
                graph = pair.evaluated(shear)
                self.field.require_known(graph, gradients.parameters)
                pair.undo(shear, graph.ends[0])
                gradients.pull_back(shear, graph)


def solve_reversibly(integrator: FixedPointShears, state: Tensor, field: FieldState) -> tuple[Tensor, Tensor]:
    """The end state ``(B, ...)`` and how far numbers went, with the gradients of :class:`ReversibleSolve`."""
    again = Reconstruction(integrator, state, field)
    return ReversibleSolve.apply(again, state, *field.tensors)  # pyright: ignore[reportReturnType]


class ReversibleSolve(torch.autograd.Function):
    """Keep the last pair only, and undo the shears one by one in the backward pass.

    The pair is in fixed point, so that undoing an addition gives back every bit, whatever the field's dtype, autocast
    included. One evaluation serves the reconstruction and the vector-Jacobian product. The field is evaluated with a
    graph in both passes: a compiled one has another kernel for either, whose last bits may differ.
    """

    @staticmethod
    def forward(ctx: Any, again: Reconstruction, state: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """The end of a solve that was made, and how far its numbers went: ``(B, ...), ()``."""
        ctx.again = again
        ctx.save_for_backward(*again.numbers, *tensors)
        end, reached = again.end, again.reached
        again.end, again.numbers = state.new_empty(0), []  # autograd's alone, or the graph would keep them alive
        ctx.mark_non_differentiable(reached)
        return end, reached

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """Undo the shears."""
        if torch.is_grad_enabled():
            raise InputError(
                "gradient='reversible' has no second derivatives (create_graph=True): "
                "use gradient='backprop' or 'checkpoint'"
            )
        again, needed = ctx.again, ctx.needs_input_grad[2:]
        saved = ctx.saved_tensors  # once: an outer checkpoint unpacks them once
        numbers, tensors = saved[:3], saved[3:]
        with (
            again.surroundings.casts(),
            again.surroundings.forked_random(),
            again.field.restored(tensors, needed) as wanted,
        ):
            gradients = PairGradients(again.integrator, gradient, wanted)
            again.undo(numbers, gradients)
        found = iter(gradients.sums.totals)
        by_tensor = [next(found) if is_needed else None for is_needed in needed]
        start = gradients.of_initial_state().to(again.dtype)
        return None, start if ctx.needs_input_grad[1] else None, *by_tensor


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

    def apply(self, shear: Shear, slope: Tensor) -> None:
        """Do the shear, and note how large its numbers are."""
        added = self.added(shear, slope)
        if self.latest:
            self.extremes += [*self.latest[shear.target], *torch.aminmax(added)]
        z, d = self.numbers[shear.target], added.to(self.form.storage)
        self.numbers[shear.target] = z = z.add_(d) if shear.factor == 1.0 else torch.sub(d, z, out=z)
        if self.latest:
            self.latest[shear.target] = torch.aminmax(z)

    def reached(self) -> Tensor:
        """The largest number that any addition so far may have given: ``()``."""
        return torch.stack(self.extremes).double().abs().reshape(-1, 2, 2).amax(2).sum(1).amax()

    def undo(self, shear: Shear, slope: Tensor) -> None:
        """Undo the shear."""
        z, d = self.numbers[shear.target], self.added(shear, slope.detach()).to(self.form.storage)
        self.numbers[shear.target] = z.sub_(d) if shear.factor == 1.0 else torch.sub(d, z, out=z)

    def evaluated(self, shear: Shear) -> Graph:
        """The source's state and the field there, or, without a graph, the source itself."""
        source = self.numbers[shear.source].to(self.form.increments, copy=True).mul_(self.units[shear.source])
        if not shear.evaluates:
            return Graph([source], [source], 0)
        return graph_of(lambda points: [self.integrator.slope(shear.t, points[0])], [source.to(self.dtype)])

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

    def pull_back(self, shear: Shear, graph: Graph) -> None:
        """Pull the gradients back through a shear: ``g_source += weight * J^T g_target``."""
        outer = self.pair[shear.target]
        if outer is None:
            return
        [point], [slope] = graph.start, graph.ends
        if shear.evaluates:
            if slope.requires_grad:
                inner, *contributions = torch.autograd.grad(
                    slope, [point, *self.parameters], (shear.weight * outer).to(slope.dtype), allow_unused=True
                )
                self.sums.add(contributions)
                self.add(shear.source, inner, 1.0)
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
