"""The classification report: metrics, confusions, cost and speed as one record."""

from collections.abc import Mapping

from classification.metrics import TOP_K, ClassificationMetrics
from engine.report.records import Picture, Quantity, Report, Table

TOP1 = "top-1 accuracy"

SHOWN_CLASSES = 20
"""Largest number of classes in the table of confusions: more don't fit on a page."""


def accuracy_quantities(metrics: ClassificationMetrics) -> tuple[Quantity, ...]:
    """Return top-1 accuracy, top-5 accuracy for more than five classes, and macro precision, recall and F1."""
    named = {
        TOP1: metrics.top1,
        "top-5 accuracy": metrics.top5 if len(metrics.per_class) > TOP_K else None,
        "precision (macro)": metrics.precision,
        "recall (macro)": metrics.recall,
        "F1 (macro)": metrics.f1,
    }
    return tuple(Quantity(name, 100 * value, "%", "higher") for name, value in named.items() if value is not None)


def class_table(metrics: ClassificationMetrics) -> Table:
    """Build the table of metrics, with one row per class."""
    rows = tuple((c.name, c.images, c.precision, c.recall, c.f1) for c in metrics.per_class)
    return Table("Classes", ("class", "images", "precision", "recall", "F1"), rows)


def confusion_tables(metrics: ClassificationMetrics) -> tuple[Table, ...]:
    """Build the table of how many images of each class were taken for which; no table for many classes."""
    names = [c.name for c in metrics.per_class]
    if len(names) > SHOWN_CLASSES:
        return ()
    rows = tuple((name, *row) for name, row in zip(names, metrics.confusion.tolist(), strict=True))
    return (Table("Images of a class (row) that were taken for a class (column)", ("class", *names), rows),)


def classification_report(
    name: str,
    metrics: ClassificationMetrics,
    measured: tuple[Quantity, ...],
    *,
    facts: Mapping[str, str],
    pictures: tuple[Picture, ...],
    notes: tuple[str, ...],
) -> Report:
    """Assemble the report from what was measured."""
    return Report(
        name=name,
        title=f"Classification: {name}",
        facts=dict(facts),
        quantities=(*accuracy_quantities(metrics), *measured),
        tables=(class_table(metrics), *confusion_tables(metrics)),
        pictures=pictures,
        notes=notes,
    )
