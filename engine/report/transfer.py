"""Is it an ODE? The metric under solvers that the weights were not trained with, and the order of convergence.

A network whose accuracy depends on the solver that trained it is a ResNet with shared weights, not a flow.

K. Ott, P. Katiyar, P. Hennig, M. Tiemann: ResNet After All? Neural ODEs and Their Numerical Solution, ICLR 2021,
arXiv:2007.15386
"""

from collections.abc import Sequence
from typing import Any

from engine.report.records import Curve, Table
from odebackbones.transfer import Transfer

TRANSFER = "Solver transfer"
"""Beginning of the titles of tables and curves."""


def transfer_table(rows: Sequence[Transfer], *, name: str = "accuracy") -> Table:
    """Lay out the rows as a table for a report, with the change from the model as trained."""
    columns: dict[str, list[Any]] = {
        "solver": [r.method for r in rows],
        "steps": ["-".join(map(str, r.steps)) if isinstance(r.steps, tuple) else r.steps for r in rows],
        "tolerance": [r.tolerance for r in rows],
        "NFE": [r.nfe for r in rows],
        name: [r.metric for r in rows],
        "against trained": [r.metric - rows[0].metric for r in rows],
        **{title: [r.further.get(title) for r in rows] for title in rows[0].further},
    }
    filled = {title: cells for title, cells in columns.items() if any(cell is not None for cell in cells)}
    return Table(f"{TRANSFER}: {name}", tuple(filled), tuple(zip(*filled.values(), strict=True)))


def transfer_curves(rows: Sequence[Transfer], *, name: str = "accuracy") -> tuple[Curve, ...]:
    """Return curves of the metric and the further figures over the evaluations, one per method, for a report's plots.

    The model with its own solver gives a single point.
    """
    curves = []
    for title in (name, *rows[0].further):
        for method in dict.fromkeys(r.method for r in rows):
            found = [(r.nfe, r.metric if title == name else r.further.get(title)) for r in rows if r.method == method]
            points = sorted((float(nfe), y) for nfe, y in found if y is not None)
            x, y = zip(*points, strict=True) if points else ((), ())
            curves.append(Curve(f"{TRANSFER}: {title} over NFE", "NFE", title, x, y, method))
    return tuple(curves)
