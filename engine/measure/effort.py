"""Effort of an adaptive solver: evaluations for every image, and the images that take the fewest and the most."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from torch import nn

from engine.report.records import Curve, Picture, Quantity, Report
from odebackbones.block import ODEBlock
from odebackbones.ode.solvers import has_fixed_cost
from odebackbones.transfer import total_nfe

SHOWN = 5
"""Number of images that are shown of those that take the fewest evaluations, and of the most."""

BINS = 20
"""Largest number of bins of the histogram."""


@contextmanager
def recorded_nfe(model: nn.Module) -> Iterator[list[int]]:
    """Collect the evaluations of all ODE blocks in every call of the model."""
    found: list[int] = []
    handle = model.register_forward_hook(lambda *_: found.append(total_nfe(model)))
    try:
        yield found
    finally:
        handle.remove()


def is_adaptive(model: nn.Module) -> bool:
    """Whether the evaluations of the model's ODE blocks depend on the image."""
    return any(isinstance(m, ODEBlock) and not has_fixed_cost(m.solver) for m in model.modules())


def with_effort(
    report: Report, model: nn.Module, calls: Sequence[int], *, images: int, draw: Callable[[int], Picture]
) -> Report:
    """Add the evaluations per image to a report, if they differ: figures, a histogram and pictures.

    Args:
        report: Report on the model.
        model: The model.
        calls: Evaluations of the model's calls on the images, in order, with as many calls for each image.
        images: Number of images.
        draw: Function that draws the prediction for an image.
    """
    if not is_adaptive(model):
        return report
    nfe = np.array(calls).reshape(images, -1).sum(1)
    mean, least, most = float(nfe.mean()), int(nfe.min()), int(nfe.max())
    quantities = [
        Quantity("NFE per image, mean", mean, "", "lower", "cost"),
        Quantity("NFE per image, least", least, "", "neither", "cost"),
        Quantity("NFE per image, greatest", most, "", "neither", "cost"),
    ]
    values, counts = np.unique(nfe, return_counts=True)
    if len(values) > BINS:
        counts, edges = np.histogram(nfe, bins=BINS)
        values = (edges[1:] + edges[:-1]) / 2
    histogram = Curve(
        "Images over evaluations", "NFE per image", "images", tuple(values.tolist()), tuple(counts.tolist()), bars=True
    )
    order = np.argsort(nfe, kind="stable").tolist()
    pictures = [
        replace(picture, name=f"{kind}-{rank}", caption=f"{nfe[i]} evaluations: {picture.caption}", row=kind)
        for kind, chosen in (("cheapest", order[:SHOWN]), ("costliest", order[::-1][:SHOWN]))
        if most > least
        for rank, i in enumerate(chosen, start=1)
        for picture in [draw(i)]
    ]
    return replace(
        report,
        quantities=(*report.quantities, *quantities),
        curves=(*report.curves, histogram),
        pictures=(*report.pictures, *pictures),
    )
