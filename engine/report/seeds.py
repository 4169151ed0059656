"""Several trainings of one model, which differ in their seed alone, as one report."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from engine.measure.resampling import interval, seed_half_width, widened, within
from engine.report.records import Point, Quantity, Report, Resamples, Table


def join_seeds(reports: Sequence[Report]) -> Report:
    """Join the reports of trainings with several seeds: figures are means.

    Curves and pictures are the first one's, and say so.

    The intervals of accuracy hold both sources of uncertainty, images and seeds. A single report stays as it is.
    """
    first, *others = reports
    if not others:
        return first
    resamples = join_resamples([report.resamples for report in reports])
    quantities = tuple(mean_quantity(q, reports, resamples) for q in first.quantities)
    points = [mean_point(point, reports) for point in first.points]
    whose = f"the first of {len(reports)} seeds"
    return replace(
        first,
        facts=join_facts(reports),
        quantities=tuple(q for q in quantities if q is not None),
        points=tuple(point for point in points if point is not None),
        curves=tuple(replace(c, label=f"{c.label} ({whose})" if c.label else whose) for c in first.curves),
        pictures=tuple(replace(p, caption=f"{p.caption} ({whose})") for p in first.pictures),
        notes=(
            *dict.fromkeys(note for report in reports for note in report.notes),
            f"Its figures are means of {len(reports)} trainings that differ in their seed.",
        ),
        resamples=resamples,
    )


def join_facts(reports: Sequence[Report]) -> dict[str, str]:
    """Return all facts, with every value that one has, as of a training that was not finished."""
    names = dict.fromkeys(name for report in reports for name in report.facts)
    found = {name: dict.fromkeys(report.facts[name] for report in reports if name in report.facts) for name in names}
    return {name: ", ".join(values) for name, values in found.items()}


def join_resamples(found: Sequence[Resamples | None]) -> Resamples | None:
    """Average figures over seeds in every resample; None unless all have the same images."""
    known = [resamples for resamples in found if resamples is not None]
    if len(known) < len(found) or len({resamples.digest for resamples in known}) > 1:
        return None
    labels = [label for label in known[0].figures if all(label in resamples.figures for resamples in known)]
    values = {label: tuple(resamples.values[label] for resamples in known) for label in labels}
    return replace(
        known[0],
        values={label: float(np.mean(each)) for label, each in values.items()},
        figures={label: np.mean([resamples.figures[label] for resamples in known], axis=0) for label in labels},
        seeds=values,
    )


def mean_quantity(quantity: Quantity, reports: Sequence[Report], resamples: Resamples | None) -> Quantity | None:
    """Average a figure over the reports; None if one lacks it."""
    found = [
        q for report in reports for q in report.quantities if (q.group, q.label) == (quantity.group, quantity.label)
    ]
    values = [q.value for q in found if q.value is not None]
    if len(values) < len(reports):
        return None
    mean = float(np.mean(values))
    if isinstance(quantity.value, int) and len(set(values)) == 1:
        return quantity
    if quantity.group == "accuracy":
        known = resamples.figures.get(quantity.label) if resamples is not None else None
        ends = interval(mean, known, images=resamples.images) if resamples is not None and known is not None else None
        ends = ends and widened(ends, seed_half_width([values]))
        return replace(quantity, value=mean, interval=within(ends, quantity))
    ends = [q.interval for q in found if q.interval is not None]
    means = np.mean(ends, axis=0).tolist() if len(ends) == len(reports) else None
    return replace(quantity, value=mean, interval=(means[0], means[1]) if means else None)


def mean_point(point: Point, reports: Sequence[Report]) -> Point | None:
    """Average the figures under one solver over the reports; None if one lacks it."""
    same = [
        other
        for report in reports
        for other in report.points
        if (other.solver, other.steps, other.tolerance) == (point.solver, point.steps, point.tolerance)
    ]
    if len(same) < len(reports):
        return None
    labels = [label for label in point.figures if all(label in other.figures for other in same)]
    return replace(point, figures={label: float(np.mean([other.figures[label] for other in same])) for label in labels})


def seed_table(name: str, runs: Sequence[str], reports: Sequence[Report]) -> Table:
    """Lay out the accuracy of every training, with its mean and its range over the seeds."""
    labels = [q.label for q in reports[0].quantities if q.group == "accuracy" and q.better != "neither"]
    rows = []
    for label in labels:
        values = [q.value for report in reports for q in report.quantities if q.label == label and q.value is not None]
        if len(values) == len(reports):
            rows.append((label, *values, float(np.mean(values)), max(values) - min(values)))
    return Table(f"Seeds of {name}", ("quantity", *runs, "mean", "range"), tuple(rows))
