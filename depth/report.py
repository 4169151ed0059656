"""The depth report: figures, baselines, cost and speed in one record."""

from collections.abc import Mapping, Sequence
from math import isfinite

from depth.evaluate import MODEL, DepthMetrics
from depth.metrics import FIGURES
from depth.resampling import resample_images
from engine.measure.resampling import with_resamples
from engine.report.records import Curve, Picture, Quantity, Report, Table

POOLED, BASELINES = "accuracy over all pixels", "baselines"
"""Groups of quantities other than the accuracy, which is a mean over the images."""


def accuracy_quantities(metrics: DepthMetrics) -> tuple[Quantity, ...]:
    """Return all figures as means over the images, then over all pixels, and the baselines' delta1 and abs_rel."""
    own = [
        Quantity(name + suffix, value, FIGURES[name].unit, FIGURES[name].better, group)
        for group, suffix, values in (("accuracy", "", metrics.averaged), (POOLED, ", pooled", metrics.pooled))
        for name, value in values[MODEL].items()
    ]
    others = [
        Quantity(f"{figure} of the {predictor}", values[figure], group=BASELINES)
        for predictor, values in metrics.averaged.items()
        for figure in ("delta1", "abs_rel")
        if predictor != MODEL
    ]
    return (*own, *others)


def predictor_table(metrics: DepthMetrics) -> Table:
    """Build the table of the model and the baselines, which ignore the image."""
    rows = tuple((name, *(values[figure] for figure in FIGURES)) for name, values in metrics.averaged.items())
    columns = tuple(f"{name} [{figure.unit}]" if figure.unit else name for name, figure in FIGURES.items())
    return Table("Predictors, mean over the images", ("predictor", *columns), rows)


def error_curve(metrics: DepthMetrics) -> Curve:
    """Build the curve of the relative error over the distance, at the centers of the bins."""
    half = metrics.distances[0] / 2
    points = [
        (end - half, error)
        for end, error in zip(metrics.distances, metrics.error_over_distance, strict=True)
        if isfinite(error)  # there are pixels
    ]
    x, y = zip(*points, strict=True)
    return Curve("Relative error over distance (all pixels)", "true depth [m]", "mean |p - g| / g", x, y)


def depth_report(
    name: str,
    metrics: DepthMetrics,
    measured: tuple[Quantity, ...] = (),
    *,
    images: Sequence[str],
    facts: Mapping[str, str],
    pictures: tuple[Picture, ...] = (),
    notes: tuple[str, ...] = (),
) -> Report:
    """Assemble the report from what was measured; ``images`` are the names of all images of the set."""
    skipped = (f"{metrics.skipped} images have no pixel that counts, and were left aside.",) if metrics.skipped else ()
    report = Report(
        name=name,
        title=f"Depth: {name}",
        facts={**facts, "images": str(len(metrics.counted))},
        quantities=(*accuracy_quantities(metrics), *measured),
        curves=(error_curve(metrics),),
        tables=(predictor_table(metrics),),
        pictures=pictures,
        notes=(*skipped, *notes),
    )
    resampled = resample_images([result.sums[MODEL] for result in metrics.counted])
    identities = [f"{images[result.index]} {result.sums[MODEL].pixels}" for result in metrics.counted]
    return with_resamples(report, resampled, identities)
