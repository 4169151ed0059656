"""Fit of fewer weights over time to the states of a converted ResNet, without labels and gradient descent."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from odebackbones.block import ODEBlock, ode_blocks
from odebackbones.checks import one_for_each
from odebackbones.convert.bases import change_block
from odebackbones.convert.resnet import require_euler
from odebackbones.convert.solver import evaluating
from odebackbones.errors import InputError
from odebackbones.fields.attention import NoAttention
from odebackbones.fields.basis import basis_index
from odebackbones.ode.grids import Grid
from odebackbones.ode.solvers import solver_grid

Model = TypeVar("Model", bound=nn.Module)

CHUNK = 50
"""Number of images processed at once."""

RIDGE = 1e-4
"""Ridge parameter of the least squares, in units of the features' mean variance."""

PASSES = 2
"""Number of passes through the steps that share weights; in the first, the inputs of later steps are guesses."""


@torch.no_grad()
def fit_bases(
    model: Model, bases: int | Sequence[int], images: Tensor, *, steps: int | Sequence[int] | None = None
) -> Model:
    r"""Return a copy of a converted ResNet with fewer weights over time, whose states approximate ``model``'s.

    Steps that share weights take all convolutions except the last one from the block that changes the state most. The
    last convolution's weight W, and every step's own gains g and offsets b, are chosen to minimize

    .. math:: \sum_i \| g_i (W * z_i) + b_i - (x^*_{i+1} - x_i) \|^2

    (first W with all gains at 1, then gains and offsets), with :math:`x_i` the state that the new model has reached,
    :math:`z_i` its features before the last convolution, and :math:`x^*_{i+1}` the next state of ``model`` before its
    ReLU: each step corrects what the previous steps have missed. No labels are needed; a few hundred images are enough.
    The states of a group of steps are held all at once, for all images.

    Reconstruction of pruned channels by least squares: Y. He, X. Zhang, J. Sun: Channel Pruning for Accelerating Very
    Deep Neural Networks, ICCV 2017, arXiv:1707.06168

    Args:
        model: A model from :func:`~odebackbones.from_resnet`.
        bases: Number of weights K of every block, or one number for each block.
        images: Inputs like those of training, ``(n, C, H, W)``.
        steps: Number of Euler steps of every block, or one for each; None keeps it. If fewer, each replaces several.

    Raises:
        InputError: The model is not a converted ResNet, or has fewer steps than requested; or there are no images.
    """
    if images.ndim != 4 or not len(images) or not images.is_floating_point():
        raise InputError(f"images: {images.dtype} of shape {tuple(images.shape)}; expected floats (n, C, H, W)")
    fitted = copy.deepcopy(model)
    blocks, own_blocks = ode_blocks(fitted), ode_blocks(model)
    given = [block.solver.steps or 0 for block in own_blocks]
    sizes = one_for_each("bases", bases, len(blocks))
    counts = given if steps is None else one_for_each("steps", steps, len(blocks))
    for block, size, count in zip(blocks, sizes, counts, strict=True):
        require_converted(block, count)
        block.set_solver(replace(block.solver, steps=count))
        change_block(block, size, count, basis=None)
    with evaluating(fitted), evaluating(model), torch.autocast(images.device.type, enabled=False):
        for block, own in zip(blocks, own_blocks, strict=True):
            fit_block(block, own, collect_inputs(fitted, block, images), collect_inputs(model, own, images))
    return fitted


def require_converted(block: ODEBlock, steps: int) -> None:
    """Refuse a block that is not a converted stage of a ResNet, or has fewer steps than requested."""
    require_euler(block)
    field: Any = block.field
    given = block.solver.steps or 0
    if (field.conv1.basis, field.conv1.bases, block.solver.projected) != ("constant", given, True):
        raise InputError(f"{block.name}: expected a weight for every projected Euler step, as from_resnet makes them")
    if not isinstance(field.se, NoAttention):
        raise InputError(f"{block.name}: a field with channel attention can't be fitted")
    if not 1 <= steps <= given:
        raise InputError(f"steps={steps}: expected 1 to {given}, those of {block.name}")


def collect_inputs(model: nn.Module, block: ODEBlock, images: Tensor) -> Tensor:
    """Return the inputs of the block: ``(n, C, H, W)``."""
    found: list[Tensor] = []
    handle = block.register_forward_pre_hook(lambda module, arguments: found.append(arguments[0]))
    try:
        for chunk in images.split(CHUNK):
            model(chunk)
    finally:
        handle.remove()
    return torch.cat(found)


def fit_block(block: ODEBlock, own: ODEBlock, state: Tensor, own_state: Tensor) -> None:
    """Fit the field, one group of steps with shared weights after another.

    Args:
        block: The block to fit.
        own: The block of the given model, with weights for every step.
        state: Input of ``block``, ``(n, C, H, W)``.
        own_state: Input of ``own``.
    """
    times, bases = [t for t, _ in step_grid(block)], field_of(block).conv1.bases
    borders = [round(i * len(step_grid(own)) / len(times)) for i in range(len(times) + 1)]
    for k in range(bases):
        group = [i for i, t in enumerate(times) if basis_index(t, bases) == k]
        steps = range(borders[group[0]], borders[group[-1] + 1])
        states, ends = {steps.start: own_state}, {}
        for i in steps:
            ends[i + 1] = before_relu(own, i, states[i])
            states[i + 1] = ends[i + 1].relu()
        changes = {i: float((states[i + 1] - states[i]).square().mean()) for i in steps}
        keep_layers(block, own, k, group, max(changes, key=lambda i: changes[i]))
        guesses, targets = [states[borders[i]] for i in group[1:]], [ends[borders[i + 1]] for i in group]
        state = fit_group(block, k, group, [state, *guesses], targets)
        own_state = states[steps.stop]


def step_grid(block: ODEBlock) -> Grid:
    """Return the start and length of every step."""
    return solver_grid(block.solver, block.t_span)


def field_of(block: ODEBlock) -> Any:
    """Return the field, which :func:`~odebackbones.convert.resnet.require_euler` has accepted."""
    return block.field


def map_chunks(function: Callable[[Tensor], Tensor], state: Tensor) -> Tensor:
    """Apply a function to a few images at a time."""
    return torch.cat([function(chunk) for chunk in state.split(CHUNK)])


def before_relu(block: ODEBlock, i: int, state: Tensor) -> Tensor:
    """Return the end state of step ``i`` before it is projected."""
    t, h = step_grid(block)[i]
    return map_chunks(lambda x: torch.add(x, field_of(block)(t, x), alpha=h), state)


def keep_layers(block: ODEBlock, own: ODEBlock, k: int, group: Sequence[int], kept: int) -> None:
    """Give weight ``k``, and the norms at the steps that share it, the values of the model's step ``kept``."""
    for (conv, norm), (own_conv, own_norm) in zip(field_of(block).layers(), field_of(own).layers(), strict=True):
        conv.weight[k].copy_(own_conv.weight[kept])
        for i in group:
            norm.weight[i].copy_(own_norm.weight[kept])
            norm.bias[i].copy_(own_norm.bias[kept])


def fit_group(block: ODEBlock, k: int, group: Sequence[int], starts: list[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """Fit the last convolution's weight ``k``, and the norms at the steps that share it.

    Args:
        block: The block to fit.
        k: Index of the weight.
        group: Indices of the steps.
        starts: Input of the first step, and guesses of the inputs of the others.
        targets: Target state of each step, before its ReLU.

    Returns:
        The state after the last step.
    """
    times, end = [step_grid(block)[i][0] for i in group], starts[0]
    for _ in range(PASSES if len(group) > 1 else 1):
        for t, start in zip(times, starts, strict=True):
            set_statistics(field_of(block), t, start)
        found = [moments(field_of(block), t, *ends) for t, *ends in zip(times, starts, targets, strict=True)]
        fit_weight(block, k, group, found)
        starts = starts[:1]
        for i in group:
            starts.append(before_relu(block, i, starts[-1]).relu())
        end = starts.pop()
    return end


def hidden_features(field: Any, t: float, x: Tensor, depth: int) -> Tensor:
    """Compute the input of convolution number ``depth``."""
    for conv, norm in field.layers()[:depth]:
        x = norm(conv(x, t), t).relu()
    return x


@dataclass
class Moments:
    """Means and covariances of D features and C residuals, over images and pixels.

    Attributes:
        features: Covariances of the features, ``(D, D)``.
        crossed: Covariances of features with residuals, ``(D, C)``.
        mean_feature: Means of the features, ``(D,)``.
        mean_residual: Means of the residuals, ``(C,)``.
    """

    features: Tensor
    crossed: Tensor
    mean_feature: Tensor
    mean_residual: Tensor


def set_statistics(field: Any, t: float, start: Tensor) -> None:
    """Set the statistics of the norms at time ``t``, except the last one, to those that ``start`` leads to."""
    for depth, (conv, norm) in enumerate(field.layers()[:-1]):
        outputs = map_chunks(lambda x, d=depth, c=conv: c(hidden_features(field, t, x, d), t), start)
        norm.set_statistics(norm.nearest(t), outputs.mean((0, 2, 3)), outputs.var((0, 2, 3)))


def moments(field: Any, t: float, start: Tensor, target: Tensor) -> Moments:
    """Compute the moments of the last convolution's input patches and of the target increments at time ``t``."""
    *before, (last, _) = field.layers()
    size = last.weight[0].shape[-2:]
    sums: list[Any] = [0, 0, 0, 0]
    for x, end in zip(start.split(CHUNK), target.split(CHUNK), strict=True):
        z = F.unfold(hidden_features(field, t, x, len(before)), size, dilation=last.dilation, padding=last.padding)
        z, r = (tensor.flatten(2).transpose(1, 2).flatten(0, 1) for tensor in (z, end - x))
        z, r = (tensor.to(torch.promote_types(tensor.dtype, torch.float32)) for tensor in (z, r))
        parts = (z.T @ z, z.T @ r, z.sum(0), r.sum(0))
        sums = [total + part.double() for total, part in zip(sums, parts, strict=True)]
    features, crossed, z, r = (total / (len(start) * start[0, 0].numel()) for total in sums)
    return Moments(features - z[:, None] * z, crossed - z[:, None] * r, z, r)


def fit_weight(block: ODEBlock, k: int, group: Sequence[int], found: Sequence[Moments]) -> None:
    """Set the last convolution's weight ``k`` by least squares with all gains at one; then gains and offsets."""
    conv, norm = field_of(block).layers()[-1]
    matrix, crossed = (torch.stack([getattr(m, name) for m in found]).sum(0) for name in ("features", "crossed"))
    matrix.diagonal().add_(RIDGE * matrix.diagonal().mean())
    weight = torch.linalg.solve(matrix, crossed)
    conv.weight[k].copy_(weight.T.reshape_as(conv.weight[k]))
    for i, m in zip(group, found, strict=True):
        t, h = step_grid(block)[i]
        variance = (weight * (m.features @ weight)).sum(0)
        gain = (weight * m.crossed).sum(0) / variance.clamp(min=torch.finfo(variance.dtype).tiny)
        norm.set_statistics(norm.nearest(t), m.mean_feature @ weight, variance)
        norm.weight[i].copy_(gain * (variance + norm.eps).sqrt() / (norm.scale * h))
        norm.bias[i].copy_(m.mean_residual / (norm.scale * h))
