"""Gradients in memory independent of the number of steps: the states are reconstructed exactly, last to first."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from odebackbones.errors import InputError
from odebackbones.ode.field_state import FieldState, Moment
from odebackbones.ode.gradients.checkpoint import Sums
from odebackbones.ode.graphs import Graph, graph_of
from odebackbones.ode.methods.base import VectorField
from odebackbones.ode.methods.fixed_point import FixedPointReversibleMethod, increment
from odebackbones.ode.methods.reversible import CoupledUpdate
from odebackbones.ode.replay import RandomState, ReplayContext


class Reconstruction:
    """A solve in fixed point, and what its backward pass needs to undo it.

    Args:
        field: The vector field.
        method: The method.
        state: ``(B, ...)``
        inputs: What the field computes with.

    Attributes:
        end: ``(B, ...)``
        reached: Bound on the largest number, divided by the format's limit: ``()``.
        numbers: The quantum's power of two, and the last pair in quanta.
    """

    def __init__(
        self, field: VectorField, method: FixedPointReversibleMethod, state: Tensor, inputs: FieldState
    ) -> None:
        self.field, self.method, self.inputs, self.dtype = field, method, inputs, state.dtype
        self.context = ReplayContext(state.device, inputs.modules)
        self.before: list[tuple[RandomState, Moment]] = []  # before each evaluation
        with torch.no_grad(), self.context.autocast():
            self.solve(state)
        inputs.settle()

    def solve(self, state: Tensor) -> None:
        """Apply the updates."""
        method = self.method
        carry = method.start(self.field, state)
        numbers = [z.to(method.form.storage, copy=True) for z in carry[:2]]
        pair = FixedPair(method, numbers, carry[2], state.dtype)
        pair.follow(carry[:2])
        for update in chain(*method.scheme.steps):
            if update.evaluates:
                moment = self.inputs.moment() if self.before else self.inputs.start
                self.before.append((self.context.rng_state(), moment))
            pair.apply(update, self.evaluated(pair, update))
        end = method.finish([*(z.double() for z in pair.numbers), *carry[2:]])
        self.reached = torch.where(end.isfinite().all(), pair.reached() / method.form.limit, torch.inf)
        end.masked_fill_(~(self.reached < 1.0), torch.nan)  # integers would hide it if nothing is checked
        self.end, self.numbers = end, [carry[2], *pair.numbers]

    def evaluated(self, pair: "FixedPair", update: CoupledUpdate) -> Tensor:
        """Return the slope, or the source itself; add what the first evaluation depends on to the solve's inputs."""
        graph = pair.evaluated(update, self.field)
        if update.evaluates and len(self.before) == 1:
            [point] = graph.start
            self.inputs.include(graph, lambda: self.field(update.t, point))
        return graph.ends[0].detach()

    def undo(self, numbers: Sequence[Tensor], gradients: "PairGradients") -> None:
        """Undo the updates from the last to the first, each with its vector-Jacobian product; keep ``numbers``."""
        power, *pair_numbers = numbers
        pair = FixedPair(self.method, [z.clone() for z in pair_numbers], power, self.dtype)
        before = list(self.before)
        for update in reversed(list(chain(*self.method.scheme.steps))):
            if update.evaluates:
                random_state, moment = before.pop()
                self.context.restore_rng(random_state)
                self.inputs.go_back_to(moment)
            graph = pair.evaluated(update, self.field)
            self.inputs.require_known(graph, gradients.parameters)
            pair.undo(update, graph.ends[0])
            gradients.pull_back(update, graph)


def solve_reversibly(
    field: VectorField, method: FixedPointReversibleMethod, state: Tensor, inputs: FieldState
) -> tuple[Tensor, Tensor]:
    """Return the end state ``(B, ...)`` and ``reached: ()``, with the gradients of :class:`ReversibleSolve`."""
    again = Reconstruction(field, method, state, inputs)
    return ReversibleSolve.apply(again, state, *inputs.tensors)  # pyright: ignore[reportReturnType]


class ReversibleSolve(torch.autograd.Function):
    """A solve that keeps only the last pair, and undoes the updates one by one in the backward pass.

    The pair is in fixed point, so that undoing an addition restores every bit, whatever the field's dtype, also under
    autocast. One evaluation serves both the reconstruction and the vector-Jacobian product. The field is evaluated
    with a graph in both passes: a compiled field has other kernels without a graph, whose last bits may differ.
    """

    @staticmethod
    def forward(ctx: Any, again: Reconstruction, state: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """Return the end state and ``reached`` of a finished solve: ``(B, ...), ()``."""
        ctx.again = again
        ctx.save_for_backward(*again.numbers, *tensors)
        end, reached = again.end, again.reached
        again.end, again.numbers = state.new_empty(0), []  # held by autograd alone, or the graph would keep them alive
        ctx.mark_non_differentiable(reached)
        return end, reached

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """Undo the updates."""
        if torch.is_grad_enabled():
            raise InputError(
                "gradient='reversible' has no second derivatives (create_graph=True): "
                "use gradient='backprop' or 'checkpoint'"
            )
        again, needed = ctx.again, ctx.needs_input_grad[2:]
        saved = ctx.saved_tensors  # once: an outer checkpoint unpacks them once
        numbers, tensors = saved[:3], saved[3:]
        with (
            again.context.autocast(),
            again.context.forked_rng(),
            again.inputs.restored(tensors, needed) as wanted,
        ):
            gradients = PairGradients(again.method, gradient, wanted)
            again.undo(numbers, gradients)
        found = iter(gradients.sums.totals)
        by_tensor = [next(found) if is_needed else None for is_needed in needed]
        start = gradients.of_initial_state().to(again.dtype)
        return None, start if ctx.needs_input_grad[1] else None, *by_tensor


class FixedPair:
    """The pair of a reversible method in fixed point, changed in place.

    Args:
        method: The method.
        numbers: The pair in whole quanta, changed in place.
        power: The quantum's power of two.
        dtype: Dtype of the states that the field sees.
    """

    def __init__(
        self, method: FixedPointReversibleMethod, numbers: list[Tensor], power: Tensor, dtype: torch.dtype
    ) -> None:
        self.numbers, self.dtype, self.form = numbers, dtype, method.form
        self.units = method.units(power)
        self.scales: dict[tuple[float, int], Tensor] = {}
        self.latest: list[tuple[Tensor, Tensor]] = []
        self.extremes: list[Tensor] = []

    def follow(self, start: list[Tensor]) -> None:
        """Track the range of the numbers from ``start``; integers cannot represent NaN."""
        self.latest = [torch.aminmax(z) for z in start]

    def apply(self, update: CoupledUpdate, slope: Tensor) -> None:
        """Apply the update, and note how large its numbers are."""
        added = self.added(update, slope)
        if self.latest:
            self.extremes += [*self.latest[update.target], *torch.aminmax(added)]
        z, d = self.numbers[update.target], added.to(self.form.storage)
        self.numbers[update.target] = z = z.add_(d) if update.factor == 1.0 else torch.sub(d, z, out=z)
        if self.latest:
            self.latest[update.target] = torch.aminmax(z)

    def reached(self) -> Tensor:
        """A bound on the numbers that the additions so far have given: ``()``."""
        return torch.stack(self.extremes).double().abs().reshape(-1, 2, 2).amax(2).sum(1).amax()

    def undo(self, update: CoupledUpdate, slope: Tensor) -> None:
        """Undo the update."""
        z, d = self.numbers[update.target], self.added(update, slope.detach()).to(self.form.storage)
        self.numbers[update.target] = z.sub_(d) if update.factor == 1.0 else torch.sub(d, z, out=z)

    def evaluated(self, update: CoupledUpdate, field: VectorField) -> Graph:
        """Return the graph from the source's state to the field there, or the source itself, without a graph."""
        source = self.numbers[update.source].to(self.form.increments, copy=True).mul_(self.units[update.source])
        if not update.evaluates:
            return Graph([source], [source], 0)
        return graph_of(lambda points: [field(update.t, points[0])], [source.to(self.dtype)])

    def added(self, update: CoupledUpdate, slope: Tensor) -> Tensor:
        """The increment of the update, in whole quanta."""
        key = update.weight, update.target
        if key not in self.scales:
            self.scales[key] = update.weight / self.units[update.target]
        return increment(slope, self.scales[key], self.form).round_()


class PairGradients:
    """The gradients of a pair and of the parameters, pulled back update by update.

    Args:
        method: The method.
        gradient: Gradient with respect to the end state.
        parameters: Tensors that require gradients.
    """

    def __init__(self, method: FixedPointReversibleMethod, gradient: Tensor, parameters: list[Tensor]) -> None:
        self.scheme, self.parameters, self.sums = method.scheme, parameters, Sums(len(parameters))
        gradient = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
        self.pair: list[Tensor | None] = [weight * gradient if weight else None for weight in self.scheme.output]

    def pull_back(self, update: CoupledUpdate, graph: Graph) -> None:
        """Pull the gradients back through an update: ``g_source += weight * J^T g_target``."""
        outer = self.pair[update.target]
        if outer is None:
            return
        [point], [slope] = graph.start, graph.ends
        if update.evaluates:
            if slope.requires_grad:
                inner, *contributions = torch.autograd.grad(
                    slope, [point, *self.parameters], (update.weight * outer).to(slope.dtype), allow_unused=True
                )
                self.sums.add(contributions)
                self.add(update.source, inner, 1.0)
        else:
            self.add(update.source, outer, update.weight)
        self.pair[update.target] = outer if update.factor == 1.0 else -outer

    def add(self, index: int, gradient: Tensor | None, weight: float) -> None:
        """Add a weighted gradient to the gradient of one tensor of the pair."""
        if gradient is None:
            return
        total = self.pair[index]
        if total is None:
            self.pair[index] = weight * gradient.to(torch.promote_types(gradient.dtype, torch.float32))
        else:
            total.add_(gradient, alpha=weight)  # our own tensor: incoming gradients are multiplied first

    def of_initial_state(self) -> Tensor:
        """The gradient with respect to the state from which the pair was made."""
        parts = [
            g * weight for g, weight in zip(self.pair, self.scheme.initial, strict=True) if g is not None and weight
        ]
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]
