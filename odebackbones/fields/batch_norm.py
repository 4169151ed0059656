"""Batch normalization with statistics per evaluation time."""

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from odebackbones.fields.affine import TimeNorm
from odebackbones.fields.basis import basis_values, blend_parameter


class TimeBatchNorm2d(TimeNorm):
    """Batch normalization with running statistics per evaluation time.

    The features of an ODE drift along its trajectory, so one running mean cannot describe them all. The statistics
    are kept at the solver's evaluation times (``nodes``); at other times, in evaluation, they are interpolated
    linearly. Training uses the batch's own statistics and updates the running statistics of the nearest node.

    Every node is an ``nn.BatchNorm2d`` without gain and offset, which all nodes share, so that tools that look for such
    layers find them: conversion to SyncBatchNorm, timm's and torchvision's freezing, ``update_bn``.

    S. Ioffe, C. Szegedy: Batch Normalization, ICML 2015, arXiv:1502.03167

    Args:
        channels: Number of channels C.
        nodes: Evaluation times, ascending.
        frozen: Always use the running statistics, and train nothing (like torchvision's FrozenBatchNorm2d).
        eps: Value added to the variance.
        momentum: Momentum of the running statistics.
        **kwargs: ``bases``, ``basis``, ``device`` and ``dtype`` of :class:`TimeNorm`.

    Attributes:
        norms: One layer per node.
        calibration: Weight of the batch in the statistics while they are estimated again; otherwise None.

    Shape:
        ``x: (B, C, H, W) -> (B, C, H, W)``
    """

    def __init__(
        self,
        channels: int,
        *,
        nodes: list[float],
        frozen: bool = False,
        eps: float = 1e-5,
        momentum: float = 0.1,
        **kwargs: Any,
    ) -> None:
        super().__init__(channels, **kwargs)
        self.nodes = list(nodes)
        self.eps = eps
        self.calibration: float | None = None
        factory = {"device": kwargs.get("device"), "dtype": kwargs.get("dtype")}
        norm = partial(nn.BatchNorm2d, channels, eps, momentum, affine=False, **factory)
        self.norms = nn.ModuleList([norm() for _ in nodes])
        if frozen:
            self.freeze()

    def freeze(self) -> None:
        """Use the running statistics from now on, also in training, and train nothing."""
        freeze_batch_norms(self)
        self.requires_grad_(False)

    @property
    def frozen(self) -> bool:
        """Whether the running statistics are used in training, too."""
        return not isinstance(self.norms[0], _BatchNorm)

    @property
    def momentum(self) -> float | None:
        """The momentum of the running statistics; None if they are frozen."""
        return getattr(self.norms[0], "momentum", None)

    @property
    def running_mean(self) -> Tensor:
        """A copy of the nodes' running means: ``(nodes, C)``."""
        return torch.stack([self.row(i)[0] for i in range(len(self.nodes))])

    @property
    def running_var(self) -> Tensor:
        """A copy of the nodes' running variances: ``(nodes, C)``."""
        return torch.stack([self.row(i)[1] for i in range(len(self.nodes))])

    @torch.no_grad()
    def set_statistics(self, node: int, mean: Tensor, var: Tensor) -> None:
        """Set a node's running mean and variance: ``(C,)`` each."""
        for own, other in zip(self.row(node), (mean, var), strict=True):
            own.copy_(other)

    def set_times(self, times: Sequence[float]) -> None:
        """Move the nodes to these times, and interpolate the running statistics linearly."""
        found = [self.statistics(t) for t in times]
        self.norms = nn.ModuleList([copy.deepcopy(self.norms[self.nearest(t)]) for t in times])
        self.nodes = list(times)
        for i, (mean, var) in enumerate(found):
            self.set_statistics(i, mean, var)

    def keep_first(self) -> None:
        """Reduce to a norm with one gain, offset and node, the first, at all times."""
        super().keep_first()
        self.nodes, self.norms = self.nodes[:1], self.norms[:1]

    def tensors_at(self, t: float) -> dict[str, Tensor]:
        """Return the named tensors with which a norm of one gain, offset and node equals this one at time ``t``."""
        if self.uses_batch(t):  # the node's own buffers, to be updated
            of_node = dict(self.norms[self.nearest(t)].named_buffers())
        else:
            of_node = dict(zip(("running_mean", "running_var"), self.statistics(t), strict=True))
        return super().tensors_at(t) | {f"norms.0.{name}": tensor for name, tensor in of_node.items()}

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        of_nodes = [key for key in state_dict if key.startswith(f"{prefix}norms.")]
        times = len({key.removeprefix(prefix).split(".")[1] for key in of_nodes})
        if times != len(self.nodes):
            for key in of_nodes:
                del state_dict[key]
            if times:
                *_, errors = args
                errors.append(
                    f"{prefix[:-1]} has statistics at {len(self.nodes)} times, and the weights to load at {times}: "
                    f"build the model with the solver that trained them, load them, then "
                    f"odebackbones.change_solver(model, ...)"
                )
                state_dict.update({f"{prefix}norms.{key}": value for key, value in self.norms.state_dict().items()})
        else:
            fit_frozen(state_dict, prefix, self.norms)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def row(self, index: int) -> tuple[Tensor, Tensor]:
        """Return the running mean and variance ``(C,)`` of a node."""
        mean, var = self.norms[index].running_mean, self.norms[index].running_var
        assert isinstance(mean, Tensor) and isinstance(var, Tensor)
        return mean, var

    def statistics(self, t: float) -> tuple[Tensor, Tensor]:
        """Return the running mean and variance ``(channels,)`` at time ``t``."""
        index, fraction = self.locate(t)
        mean, var = self.row(index)
        if fraction > 0.0:
            next_mean, next_var = self.row(index + 1)
            mean = torch.lerp(mean, next_mean, fraction)
            var = torch.lerp(var, next_var, fraction)
        return mean, var

    def at(self, t: float, *, factor: float = 1.0) -> nn.BatchNorm2d:
        """Build the plain norm that equals this one at time ``t``, with gain and offset multiplied by ``factor``."""
        (mean, var), values = self.statistics(t), basis_values(self.basis, self.bases, t)
        norm = nn.BatchNorm2d(self.channels, eps=self.eps, momentum=self.momentum).to(mean)
        factor *= self.scale
        norm.weight, norm.bias = (blend_parameter(list(p), values, factor=factor) for p in (self.weight, self.bias))
        norm.running_mean, norm.running_var = mean.detach().clone(), var.detach().clone()
        return norm

    def locate(self, t: float) -> tuple[int, float]:
        """Find index i and fraction w of ``t = (1 - w) * nodes[i] + w * nodes[i + 1]``; outside the nodes, the end."""
        for i, node in enumerate(self.nodes):
            if t <= node + 1e-9:
                if i == 0 or t >= node - 1e-9:
                    return i, 0.0
                return i - 1, (t - self.nodes[i - 1]) / (node - self.nodes[i - 1])
        return len(self.nodes) - 1, 0.0

    def nearest(self, t: float) -> int:
        """Return the index of the node nearest to ``t``."""
        index, fraction = self.locate(t)
        return index + int(fraction > 0.5)

    def forward(self, x: Tensor, t: float) -> Tensor:
        """Normalize ``x`` as at time ``t``."""
        gain, offset = self.affine(t)
        if self.uses_batch(t):
            return self.by_batch(x, t, gain, offset)
        mean, var = self.statistics(t)
        return F.batch_norm(x, mean, var, gain, offset, False, 0.0, self.eps)

    def uses_batch(self, t: float) -> bool:
        """Whether the batch's own statistics are used."""
        norm = self.norms[self.nearest(t)]
        return self.calibration is not None or (norm.training and isinstance(norm, _BatchNorm))

    def by_batch(self, x: Tensor, t: float, gain: Tensor, offset: Tensor) -> Tensor:
        """Normalize by the batch's own statistics, and update the nearest node's as its layer does."""
        norm: Any = self.norms[self.nearest(t)]
        if self.calibration is not None:
            return F.batch_norm(x, *self.row(self.nearest(t)), gain, offset, True, self.calibration, self.eps)
        if type(norm) is not nn.BatchNorm2d:  # SyncBatchNorm over all processes, or another replacement
            return torch.addcmul(offset.reshape(-1, 1, 1), norm(x), gain.reshape(-1, 1, 1))
        if not norm.track_running_stats:  # a recomputation: the batch was counted the first time
            return F.batch_norm(x, None, None, gain, offset, True, 0.0, norm.eps)
        seen = norm.get_buffer("num_batches_tracked").add_(1)
        momentum = 1.0 / float(seen) if norm.momentum is None else norm.momentum
        return F.batch_norm(x, norm.running_mean, norm.running_var, gain, offset, True, momentum, norm.eps)


def fit_frozen(state_dict: dict[str, Tensor], prefix: str, norms: nn.ModuleList) -> None:
    """Adapt a state dict to the nodes if either is frozen: frozen nodes have gains of 1 and offsets of 0."""
    for i, norm in enumerate(norms):
        for name, value in (("weight", 1.0), ("bias", 0.0)):
            key = f"{prefix}norms.{i}.{name}"
            if getattr(norm, name) is None:
                state_dict.pop(key, None)
            else:
                state_dict.setdefault(key, torch.full_like(norm.get_buffer(name), value))


def freeze_norms(model: nn.Module) -> nn.Module:
    """Freeze every batch norm in ``model`` and return the model, with timm's norms replaced by frozen layers."""
    for module in model.modules():
        if isinstance(module, TimeBatchNorm2d):
            module.requires_grad_(False)
    return freeze_batch_norms(model)


def freeze_batch_norms(model: nn.Module) -> nn.Module:
    """Freeze plain batch norms as timm does."""
    from timm.layers import freeze_batch_norm_2d  # a late import: the solvers and fields alone don't wait for timm

    return freeze_batch_norm_2d(model)
