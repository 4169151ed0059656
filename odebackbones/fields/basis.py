r"""Bases for weights over time, :math:`\theta(t) = \sum_k \varphi_k(t)\,\theta_k`: the K functions of time, by name.

Plain functions of floats, so that graph tracers record their values as constants.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from odebackbones.checks import is_whole
from odebackbones.errors import InputError, unknown_name

BASES = ("constant", "linear", "spline", "chebyshev")
"""Piecewise constant on K equal intervals; hats on K knots; B-splines of degree at most 3; Chebyshev polynomials."""


def basis_values(basis: str, size: int, t: float) -> list[float]:
    r"""Evaluate a basis of ``size`` functions, :math:`\varphi_0(t), ..., \varphi_{K-1}(t)`, for ``t`` in [0, 1].

    The values sum to one, except for ``"chebyshev"``, where the first value is one.
    """
    t = min(max(t, 0.0), 1.0)
    if size == 1:
        return [1.0]
    if basis == "linear":
        return spline_values(size, 1, t)
    if basis == "spline":
        return spline_values(size, min(3, size - 1), t)
    if basis == "chebyshev":
        return chebyshev_values(size, t)
    values = [0.0] * size
    values[basis_index(t, size)] = 1.0
    return values


def basis_index(t: float, bases: int) -> int:
    """Return the k with ``t`` in [k / bases, (k + 1) / bases), for ``t`` in [0, 1].

    A time just below a border counts as on it.
    """
    return min(max(int(t * bases + 1e-6), 0), bases - 1)


def chebyshev_values(size: int, t: float) -> list[float]:
    r"""Evaluate Chebyshev polynomials of the first kind in :math:`x = 2 t - 1`: :math:`T_{k+1} = 2 x T_k - T_{k-1}`."""
    x = 2.0 * t - 1.0
    values = [1.0, x]
    for k in range(2, size):
        values.append(2.0 * x * values[k - 1] - values[k - 2])
    return values


def spline_values(size: int, degree: int, t: float) -> list[float]:
    """Evaluate B-splines on uniform knots in [0, 1], with repeated end knots.

    C. de Boor: A Practical Guide to Splines, 1978, chapter IX
    """
    pieces = size - degree
    knots = [min(max((i - degree) / pieces, 0.0), 1.0) for i in range(size + degree + 1)]
    piece = min(int(t * pieces + 1e-9), pieces - 1) + degree
    values = [0.0] * (size + degree)
    values[piece] = 1.0
    for d in range(1, degree + 1):
        for i in range(size + degree - d):
            value = 0.0
            if knots[i + d] > knots[i]:
                value += (t - knots[i]) / (knots[i + d] - knots[i]) * values[i]
            if knots[i + d + 1] > knots[i + 1]:
                value += (knots[i + d + 1] - t) / (knots[i + d + 1] - knots[i + 1]) * values[i + 1]
            values[i] = value
    return values[:size]


def blend(tensors: list[Tensor], values: list[float]) -> Tensor:
    """Sum the tensors, each times its value; a lone tensor with value 1 is returned itself."""
    first = 0
    while values[first] == 0.0:
        first += 1
    total = tensors[first] if values[first] == 1.0 else values[first] * tensors[first]
    for k in range(first + 1, len(values)):
        if values[k] != 0.0:
            total = torch.add(total, tensors[k], alpha=values[k])
    return total


def blend_parameter(parameters: Sequence[Tensor], values: Sequence[float], *, factor: float = 1.0) -> nn.Parameter:
    """Sum the parameters, each times its value, as a parameter that is trained if one with a nonzero value is."""
    total = factor * blend(list(parameters), list(values))
    is_trained = any(p.requires_grad for p, value in zip(parameters, values, strict=True) if value)
    return nn.Parameter(total.detach().clone(), requires_grad=is_trained)


def require_basis(basis: str, size: int) -> None:
    """Refuse an unknown basis, or a basis without functions."""
    if basis not in BASES:
        raise unknown_name("basis", basis, BASES)
    if not is_whole(size):
        raise InputError(f"bases={size!r}: expected a whole number of at least 1")


def require_reached(basis: str, size: int, times: Sequence[float]) -> None:
    """Refuse a basis with a function that is zero at all of the times: its weights would never be trained."""
    require_basis(basis, size)
    values = [basis_values(basis, size, t) for t in times]
    idle = [k for k in range(size) if not any(row[k] for row in values)]
    if idle:
        shown = str(idle) if len(idle) <= 8 else f"[{idle[0]}, ..., {idle[-1]}]"
        raise InputError(
            f"bases={size}: the solver evaluates at {len(times)} times, and no time falls to the bases {shown}; "
            f"take 1 <= bases <= {len(times)} or more steps"
        )


def refined_size(basis: str, size: int) -> int:
    """Return the next size whose span contains the basis of this size.

    The pieces are halved; a polynomial basis gets twice as many functions.
    """
    if size == 1:
        return 2
    degree = {"constant": 0, "linear": 1, "spline": min(3, size - 1), "chebyshev": 0}[basis]
    return 2 * (size - degree) + degree


ELSEWHERE = 1e-6
"""Row weight of the points over [0, 1] in the least squares, where the given times have 1."""


def projection(basis: str, size: int, to_basis: str, to_size: int, *, times: Sequence[float] = ()) -> Tensor:
    r"""Return the map of coefficients to another basis that is nearest in the mean square: ``(to_size, size)``.

    The map is exact if the span of the new basis contains the given functions.

    Args:
        basis: Name of the given basis.
        size: Number of functions of the given basis.
        to_basis: Name of the new basis.
        to_size: Number of functions of the new basis.
        times: Times at which to be near; all of [0, 1] counts if there are none, and where they leave a choice.
    """
    points = 16 * size * to_size
    dense = [(i + 0.5) / points for i in range(points)]  # midpoints: never on a border between pieces of either basis
    weights = torch.tensor([1.0] * len(times) + [ELSEWHERE if times else 1.0] * points, dtype=torch.float64)
    given, wanted = (
        weights[:, None] * torch.tensor([basis_values(name, number, t) for t in (*times, *dense)], dtype=torch.float64)
        for name, number in ((basis, size), (to_basis, to_size))
    )
    return torch.linalg.lstsq(wanted, given).solution
