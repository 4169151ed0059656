"""Predicted classes as a picture and as plain data."""

from collections.abc import Sequence

from torch import Tensor

from engine.images.drawing import add_captions, legible
from engine.task import Prediction

SHOWN = 3
"""Number of classes that a prediction names."""


def class_prediction(image: Tensor, logits: Tensor, classes: Sequence[str]) -> Prediction:
    """Draw the image with its likeliest classes, and list these with their probabilities as plain data.

    Args:
        image: ``(3, H, W)`` uint8.
        logits: ``(C,)``.
        classes: Names of the C classes.
    """
    values, labels = logits.softmax(0).topk(min(SHOWN, len(classes)))
    found = {"labels": [classes[label] for label in labels.tolist()], "scores": values.tolist()}
    names = [legible(name, f"class {label}") for name, label in zip(found["labels"], labels.tolist(), strict=True)]
    lines = [f"{name} {score:.2f}" for name, score in zip(names, found["scores"], strict=True)]
    return Prediction(add_captions(image, lines), found)
