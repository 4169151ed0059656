"""Images with boxes drawn on them."""

import colorsys
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional
from torchvision.utils import draw_bounding_boxes

from detection.data.dataset import DetectionDataset
from engine.images.drawing import enlarge, font_file, legible, png, zoom_of
from engine.report.records import Picture

GAP = 8  # [px] between two pictures


def colors(classes: int) -> list[tuple[int, int, int]]:
    """Return a color for each label 0..classes, spaced by the golden angle so that neighbors differ."""
    hues = (0.61803398875 * np.arange(classes + 1)) % 1.0
    return [tuple(int(255 * c) for c in colorsys.hsv_to_rgb(hue, 0.9, 0.95)) for hue in hues]  # pyright: ignore[reportReturnType]


def draw_detections(
    image: Tensor, boxes: Tensor, labels: Sequence[int], classes: Sequence[str], scores: Sequence[float] | None = None
) -> Tensor:
    """Draw boxes with their class names and scores.

    Args:
        image: Image ``(3, H, W)``, uint8.
        boxes: Boxes ``(N, 4)``, xyxy [px].
        labels: Labels 1..C; 0 marks a region of no class.
        classes: ``classes[i]`` names label i + 1.
        scores: Confidences in [0, 1].

    Returns:
        ``(3, H', W')`` uint8, enlarged if the image is small.
    """
    canvas = enlarge(image)
    if not len(labels):
        return canvas
    names = [legible(("ignored", *classes)[label], f"class {label}") for label in labels]
    if scores is not None:
        names = [f"{name} {score:.2f}" for name, score in zip(names, scores, strict=True)]
    palette = colors(len(classes))
    return draw_bounding_boxes(
        canvas,
        zoom_of(image) * boxes.float(),
        names,
        colors=[palette[label] for label in labels],
        width=2,
        font=font_file("".join(names)),
        font_size=12,
    )


def side_by_side(left: Tensor, right: Tensor) -> Tensor:
    """Join two pictures of the same height with a white gap between them."""
    gap = left.new_full((3, left.shape[1], GAP), 255)
    return torch.cat([left, gap, right], dim=2)


def example_pictures(
    dataset: DetectionDataset, results: Sequence[dict], *, threshold: float, count: int = 6
) -> tuple[Picture, ...]:
    """Draw :func:`example_picture` for images spread over the set.

    Args:
        dataset: Data set without augmentation, whose images are uint8 or in [0, 1].
        results: Detections in COCO's results format.
        threshold: Lowest score that is drawn.
        count: Number of pictures.
    """
    chosen = np.unique(np.linspace(0, len(dataset) - 1, count).round().astype(int)).tolist()
    return tuple(example_picture(dataset, results, index, threshold=threshold) for index in chosen)


def example_picture(dataset: DetectionDataset, results: Sequence[dict], index: int, *, threshold: float) -> Picture:
    """Draw an image's ground truth (left) and its detections at or above ``threshold`` (right)."""
    annotations = dataset.annotations
    label_of = {category: label for label, category in enumerate(annotations.category_ids, start=1)}
    image, target = dataset[index]
    image = functional.to_dtype(image, torch.uint8, scale=True)
    found = [r for r in results if r["image_id"] == target["image_id"] and r["score"] >= threshold]
    boxes = torch.tensor([r["bbox"] for r in found]).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    labels = [label_of[r["category_id"]] for r in found]
    truth = draw_detections(image, target["boxes"], target["labels"].tolist(), annotations.classes)
    detected = draw_detections(image, boxes, labels, annotations.classes, [r["score"] for r in found])
    caption = f"{annotations.images[index].path.name}: ground truth (left), detections from {threshold:.2f} (right)"
    return Picture(f"example-{index:05d}", caption, png(side_by_side(truth, detected)))
