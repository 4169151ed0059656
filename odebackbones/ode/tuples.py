"""States that are tuples of tensors, concatenated into one tensor for the solvers."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from odebackbones.errors import InputError
from odebackbones.ode.evaluation import CheckedField, as_slope, name_of


def flatten(state: tuple[Tensor, ...]) -> tuple[Tensor, list[torch.Size]]:
    """Concatenate the numbers of a tuple in one row, and return it with the shapes to split it again.

    Raises:
        InputError: The tensors differ in dtype or device.
    """
    kinds = {(tensor.dtype, tensor.device) for tensor in state}
    if len(kinds) != 1:
        raise InputError(f"the state's tensors differ in dtype or device, or there are none: {kinds}; make them alike")
    return torch.cat([tensor.reshape(-1) for tensor in state]), [tensor.shape for tensor in state]


def split(rows: Tensor, shapes: Sequence[torch.Size]) -> tuple[Tensor, ...]:
    """Split a row, or a stack of rows, into its tensors: ``(..., numbers) -> (..., *shape)`` each."""
    if not torch.is_grad_enabled():  # or the parts of a leaf would seem to require a gradient
        rows = rows.detach()
    parts = torch.split(rows, [shape.numel() for shape in shapes], dim=-1)
    return tuple(part.reshape((*rows.shape[:-1], *shape)) for part, shape in zip(parts, shapes, strict=True))


def parts(vector_field: Any, state: Tensor) -> tuple[Tensor, ...]:
    """The tensors that a state consists of: several if the field, checked or not, works on tuples."""
    field = vector_field.vector_field if isinstance(vector_field, CheckedField) else vector_field
    return split(state, field.shapes) if isinstance(field, FlatField) else (state,)


class FlatField(nn.Module):
    """A field on rows, made from a field on tuples.

    Args:
        vector_field: ``(t, tuple) -> tuple``.
        shapes: Shapes of the tuple's tensors.
    """

    def __init__(self, vector_field: Callable[..., Any], shapes: Sequence[torch.Size]) -> None:
        super().__init__()
        self.vector_field = vector_field
        self.shapes = shapes

    def norm(self, row: Tensor) -> Tensor:
        """The largest root mean square among the tensors of the tuple: ``()``, as in torchdiffeq."""
        return torch.stack([part.square().mean().sqrt() for part in parts(self, row) if part.numel()]).amax()

    def forward(self, t: float, row: Tensor) -> Tensor:
        """Evaluate the slope as a row.

        Raises:
            InputError: The field's slopes differ from the state in number or shapes.
        """
        state = split(row, self.shapes)
        slopes, source = self.vector_field(t, state), f"{name_of(self.vector_field)} (at t = {t:g})"
        if not isinstance(slopes, tuple | list) or len(slopes) != len(state):
            count = len(slopes) if isinstance(slopes, tuple | list) else f"a {type(slopes).__name__}"
            raise InputError(f"{source} gives {count} for a state of {len(state)} tensors: return a tuple of as many")
        pairs = zip(slopes, state, strict=True)
        return torch.cat([as_slope(slope, part, source=source).reshape(-1) for slope, part in pairs])
