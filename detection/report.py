"""The detection report: metrics, cost and speed in one record."""

from collections.abc import Mapping

from detection.coco_evaluation import COCOS_DETECTIONS
from detection.data.records import Annotations
from detection.metrics import DetectionMetrics
from detection.model import ModelConfig
from engine.report.records import Curve, Picture, Quantity, Report, Table

ALL_COUNT = (
    "Precision, recall and F1 are not judged: the best F1 is at confidence 0, where they depend on how many detections "
    "are kept."
)


def accuracy_quantities(metrics: DetectionMetrics) -> tuple[Quantity, ...]:
    """Return COCO's 12 numbers, and precision, recall and F1 at the best threshold.

    At threshold 0 all detections count, so that the latter depend on how many are kept: higher is then not better.
    """
    at_best = {
        "precision (macro)": metrics.precision,
        "recall (macro)": metrics.recall,
        "F1 (macro)": metrics.f1,
        "precision (micro)": metrics.micro_precision,
        "recall (micro)": metrics.micro_recall,
        "F1 (micro)": metrics.micro_f1,
    }
    ours = metrics.detections > COCOS_DETECTIONS
    at_100 = (
        {f"{name} (COCO's, 100 detections)": metrics.at_100[name] for name in ("AP", "AP50", "AP75")} if ours else {}
    )
    shown = {f"AR_{metrics.detections}" if name == "AR_100" else name: value for name, value in metrics.coco.items()}
    return (
        *(Quantity(name, value, better="higher") for name, value in (shown | at_100).items()),
        *(
            Quantity(name, value, better="higher" if metrics.threshold else "neither")
            for name, value in at_best.items()
        ),
        Quantity("confidence at best F1", metrics.threshold),
    )


def curves(metrics: DetectionMetrics) -> tuple[Curve, ...]:
    """Return precision over recall, and F1 over the confidence threshold; nothing if the set has no objects."""
    pr, f1 = metrics.pr_curve, metrics.f1_curve
    if not pr.recall:
        return ()
    return (
        Curve("Precision over recall (IoU 0.5, mean over classes)", "recall", "precision", pr.recall, pr.precision),
        Curve("F1 over confidence (IoU 0.5, macro)", "confidence", "F1", f1.thresholds, f1.f1),
    )


def class_table(metrics: DetectionMetrics) -> Table:
    """Build a table with one row per class; precision, recall and F1 are at the common best threshold."""
    rows = tuple((c.name, c.objects, c.ap, c.ap50, c.precision, c.recall, c.f1) for c in metrics.per_class)
    columns = ("class", "objects", "AP", "AP50", "precision", "recall", "F1")
    return Table(f"Classes (at confidence {metrics.threshold or 0:.2f})", columns, rows)


def detection_report(
    name: str,
    metrics: DetectionMetrics,
    measured: tuple[Quantity, ...],
    *,
    facts: Mapping[str, str],
    pictures: tuple[Picture, ...],
    notes: tuple[str, ...],
) -> Report:
    """Assemble the report from the measurements."""
    return Report(
        name=name,
        title=f"Detection: {name}",
        facts=dict(facts),
        quantities=(*accuracy_quantities(metrics), *measured),
        curves=curves(metrics),
        tables=(class_table(metrics),),
        pictures=pictures,
        notes=(*notes, *([ALL_COUNT] if metrics.threshold == 0 else [])),
    )


def image_facts(annotations: Annotations, model: ModelConfig) -> dict[str, str]:
    """Describe which images were evaluated, at what size and by which protocol."""
    judged = max(model.detections, COCOS_DETECTIONS)
    kept = f"{judged} detections an image"
    if model.score_threshold != ModelConfig.score_threshold:
        kept += f" of a score of at least {model.score_threshold:g}"
    return {
        "data set": annotations.name,
        "images": str(len(annotations.images)),
        "image size": f"shorter side {model.min_size[-1]} px, longer side at most {model.max_size} px",
        "protocol": f"COCO ({kept}); P/R/F1 at IoU 0.5, best macro F1",
    }
