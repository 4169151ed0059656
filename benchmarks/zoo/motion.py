"""How a converted stage moves: norms and directions of its steps, how fast its weights turn, Lipschitz estimates."""

from typing import Any

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.autograd.functional import jvp, vjp

from engine.report.records import Curve, Table
from odebackbones.block import ODEBlock

POWER_STEPS = 30
"""Steps of the power iteration for the largest singular value of a step's Jacobian."""

COLUMNS = (
    *("step", "|x|", "|step| / |x|", "cosine to the last step", "cosine to the whole way"),
    *("cosine of weights", "cosine of weights, aligned", "cosine of random weights, aligned"),
    "Lipschitz constant of the branch",
)


def motion_table(block: ODEBlock, states: Tensor) -> Table:
    """Measure every Euler step of a converted stage: means over the images, but the greatest Lipschitz constant.

    Args:
        block: A block from :func:`~odebackbones.from_resnet`: one weight for each projected Euler step.
        states: States before the flow, ``(n, C, H, W)``.
    """
    number = block.solver.steps or 1
    steps: list[Tensor] = []
    reached = [states]
    with torch.no_grad():
        for i in range(number):
            branch = block.field(i / number, reached[-1]) / number
            reached.append(F.relu(reached[-1] + branch))
            steps.append(reached[-1] - reached[-2])
    whole, rows = reached[-1] - reached[0], []
    for i, step in enumerate(steps):
        last = cosine(steps[i - 1], step) if i else None
        weights = weight_cosines(block, i) if i else (None, None, None)
        size = float((step.flatten(1).norm(dim=1) / reached[i].flatten(1).norm(dim=1)).mean())
        norm = float(reached[i].flatten(1).norm(dim=1).mean())
        rows.append((i + 1, norm, size, last, cosine(step, whole), *weights, lipschitz(block, i, reached[i])))
    return Table("How the states and the weights move", COLUMNS, tuple(rows))


def motion_curves(table: Table) -> tuple[Curve, ...]:
    """Plot every column over the step."""
    found = []
    for number, column in list(enumerate(COLUMNS))[1:]:
        points = [(float(row[0]), float(row[number])) for row in table.rows if row[number] is not None]  # pyright: ignore
        x, y = zip(*points, strict=True)
        found.append(Curve(column, "step", column, x, y))
    return tuple(found)


def cosine(a: Tensor, b: Tensor) -> float:
    """Return the cosine of two states' changes, averaged over the images."""
    return float(F.cosine_similarity(a.flatten(1), b.flatten(1), dim=1).mean())


def weight_cosines(block: ODEBlock, step: int) -> tuple[float, float, float]:
    """Return the cosine of a step's kernels with the last step's: as they are, aligned, and of aligned random ones.

    The last is the control: the best order of channels makes any two kernels somewhat alike.
    """
    last, own = kernels(block, step - 1), kernels(block, step)
    generator = torch.Generator().manual_seed(step)
    random = [torch.randn(kernel.shape, generator=generator) for kernel in own]
    return weight_cosine(last, own), weight_cosine(last, own, align=True), weight_cosine(last, random, align=True)


def weight_cosine(a: list[Tensor], b: list[Tensor], *, align: bool = False) -> float:
    """Return the cosine of the kernels of two branches, all of a branch together.

    With ``align``, the hidden channels of the second are first put in the order that fits the first best, as their
    order is arbitrary: by the Hungarian method, for a bottleneck one layer after the other.
    """
    if align:
        likeness = a[0].flatten(1) @ b[0].flatten(1).T
        if len(a) == 3:  # a bottleneck: the first order is of the channels between the first two kernels
            order = best_order(likeness)
            b = [b[0][order], b[1][:, order], b[2]]
            likeness = a[1].flatten(1) @ b[1].flatten(1).T + a[2].flatten(2)[..., 0].T @ b[2].flatten(2)[..., 0]
            order = best_order(likeness)
            b = [b[0], b[1][order], b[2][:, order]]
        else:
            order = best_order(likeness + torch.einsum("omhw,onhw->mn", a[1], b[1]))
            b = [b[0][order], b[1][:, order]]
    flat = [torch.cat([F.normalize(kernel.flatten(), dim=0) for kernel in found]) for found in (a, b)]
    return float(F.cosine_similarity(flat[0], flat[1], dim=0))


def best_order(likeness: Tensor) -> Tensor:
    """Return the order of the columns that maximizes the trace."""
    return torch.from_numpy(linear_sum_assignment(likeness.numpy(), maximize=True)[1])


def kernels(block: ODEBlock, step: int) -> list[Tensor]:
    """Return the kernels of one step's branch, from its first convolution to its last."""
    field: Any = block.field
    found = [field.conv1, field.conv2, *([field.conv3] if hasattr(field, "conv3") else [])]
    return [conv.weight[step].detach() for conv in found]


def lipschitz(block: ODEBlock, step: int, states: Tensor) -> float:
    """Estimate the largest singular value of the Jacobian of a step's branch at the states, the greatest of them.

    The Jacobian of all images together is block-diagonal; power iterations with its transpose find the greatest.
    """
    number = block.solver.steps or 1
    states = states[:10].detach()

    def branch(x: Tensor) -> Tensor:
        return block.field(step / number, x) / number

    direction = torch.randn(states.shape, generator=torch.Generator().manual_seed(0))
    norms = direction.new_zeros(1)
    for _ in range(POWER_STEPS):
        direction = direction / direction.flatten(1).norm(dim=1)[:, None, None, None]
        pushed: Any = jvp(branch, states, direction)[1]
        norms = pushed.detach().flatten(1).norm(dim=1)
        pulled: Any = vjp(branch, states, pushed.detach())[1]
        direction = pulled.detach()
    return float(norms.max())
