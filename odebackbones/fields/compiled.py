"""One compiled graph for all evaluation times of a field: the values at a time enter it as tensors."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from odebackbones.fields.affine import TimeNorm
from odebackbones.fields.batch_norm import TimeBatchNorm2d
from odebackbones.fields.conv import TimeConv2d


class CompiledField:
    """A field as one compiled function of the state and of the tensors at a time.

    A time is a constant of a graph: the field itself would be compiled again for every time, up to torch's limit of
    recompilations, and run uncompiled from then on. Therefore a twin with one weight and one node is compiled, which
    gets the weights, gains, offsets and statistics of the time.

    Args:
        field: A field made of :class:`~odebackbones.fields.conv.TimeConv2d` and
            :class:`~odebackbones.fields.affine.TimeNorm`.
        **kwargs: Keyword arguments of :func:`torch.compile`.
    """

    def __init__(self, field: nn.Module, **kwargs: Any) -> None:
        self.field = field
        self.twin = steady_twin(field)
        self.slope: Callable[[dict[str, Tensor], Tensor], Tensor] = torch.compile(self.twins_slope, **kwargs)

    def twins_slope(self, tensors: dict[str, Tensor], x: Tensor) -> Tensor:
        """The slope of a twin that has these tensors: ``(B, ...) -> (B, ...)``."""
        return torch.func.functional_call(self.twin, tensors, (1.0, x))

    def __call__(self, t: float, x: Tensor) -> Tensor:
        """The slope at time ``t``: ``(B, ...) -> (B, ...)``."""
        modules = list(self.field.modules())
        if any(module._forward_hooks or module._forward_pre_hooks for module in modules):
            warnings.warn("a compiled field has got hooks: it runs as it is, not compiled", stacklevel=2)
            return self.field.forward(t, x)
        if any(weighs_anew(module) for module in modules):
            return self.field.forward(t, x)
        set_modes(self.field, self.twin, t)
        return self.slope(tensors_at(self.field, t), x)


def steady_twin(field: nn.Module) -> nn.Module:
    """Build a copy of a field with one weight and one node for all times."""
    twin = copy.deepcopy(field)
    for module in list(twin.modules()):
        if isinstance(module, TimeConv2d | TimeNorm):
            module.keep_first()
    return twin


def tensors_at(field: nn.Module, t: float) -> dict[str, Tensor]:
    """Return the parameters and buffers, by their names in the twin, that make the twin the field at time ``t``."""
    tensors: dict[str, Tensor] = {}
    own = ""
    for name, module in field.named_modules():
        prefix = f"{name}." if name else ""
        if isinstance(module, TimeConv2d | TimeNorm):
            own = prefix
            tensors |= {f"{prefix}{key}": tensor for key, tensor in module.tensors_at(t).items()}
        elif not own or not prefix.startswith(own):  # not a part of the preceding layer
            plain = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
            tensors |= {f"{prefix}{key}": tensor for key, tensor in plain}
    return tensors


def weighs_anew(module: nn.Module) -> bool:
    """Whether a norm weights every batch differently, as in calibration, so that no graph serves two batches."""
    is_cumulative = isinstance(module, nn.BatchNorm2d) and module.training and module.momentum is None
    return is_cumulative or (isinstance(module, TimeBatchNorm2d) and module.calibration is not None)


OWN = ("bases", "basis", "has_bias")
"""Settings of a twin's layers that differ from the field's."""


def set_modes(field: nn.Module, twin: nn.Module, t: float) -> None:
    """Copy the modes and settings that the field has at time ``t`` to a twin, module by module."""
    for name, module in twin.named_modules():
        source: nn.Module = field.get_submodule(name)
        copy_settings(source, module)
        if isinstance(module, TimeBatchNorm2d) and isinstance(source, TimeBatchNorm2d):
            node = source.norms[source.nearest(t)]
            if type(module.norms[0]) is not type(node):  # converted since
                module.norms[0] = copy.deepcopy(node)


def copy_settings(source: nn.Module, twin: nn.Module) -> None:
    """Copy the plain settings of a module: its mode, momentum, rates, ..."""
    settings = vars(twin)
    for name, value in vars(source).items():
        is_plain = isinstance(value, bool | int | float | str | None) and not name.startswith("_")
        if is_plain and name not in OWN and settings.get(name) != value:
            setattr(twin, name, value)
