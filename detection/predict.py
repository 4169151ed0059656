"""Predicted boxes, as a picture and as plain data."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from detection.pictures import draw_detections
from engine.task import Prediction


def box_prediction(image: Tensor, found: Mapping[str, Tensor], classes: Sequence[str]) -> Prediction:
    """Return the image with its detections drawn, and the detections as plain data, boxes as x1, y1, x2, y2 [px].

    Args:
        image: Image ``(3, H, W)``, uint8.
        found: Detections: ``boxes: (N, 4)`` xyxy [px], ``labels: (N,)`` starting at 1, ``scores: (N,)``.
        classes: Class names, in the order of the labels.
    """
    labels, scores = found["labels"].tolist(), found["scores"].tolist()
    picture = draw_detections(image, found["boxes"], labels, classes, scores)
    facts = {"boxes": found["boxes"].tolist(), "labels": [classes[label - 1] for label in labels], "scores": scores}
    return Prediction(picture, facts, counts={"objects": len(scores)})
