"""Example predictions next to the truth."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from depth.colors import color_depth, color_error, scale_bar, stack_pictures
from depth.data.dataset import DepthDataset
from depth.data.transforms import resize_depth
from depth.evaluate import Comparison
from engine.images.drawing import png
from engine.report.records import Picture

WIDTH = 640
"""Width of an example picture [px]."""


def example_pictures(
    dataset: DepthDataset, predict: Callable[[Tensor], Tensor], comparison: Comparison, *, count: int = 6
) -> tuple[Picture, ...]:
    """Draw image, truth, prediction and error for images spread over the set.

    Args:
        dataset: Data set without augmentation.
        predict: Maps an image ``(3, H, W)`` in [0, 1] to its depth ``(h, w)`` [m].
        comparison: Tells which pixels count, and up to which depth.
        count: Number of example pictures.
    """
    chosen = np.unique(np.linspace(0, len(dataset) - 1, count).round().astype(int)).tolist()
    return tuple(example_picture(dataset, predict, comparison, index) for index in chosen)


def example_picture(
    dataset: DepthDataset, predict: Callable[[Tensor], Tensor], comparison: Comparison, index: int
) -> Picture:
    """Draw :func:`example` for an image of the set."""
    image, truth = dataset[index]
    picture = example(image, truth[0], predict(image), comparison)
    name = dataset.pairs.pairs[index].image.name
    caption = f"{name}: image, true depth, prediction, relative error (blue: none, red: a half and more)"
    return Picture(f"example-{index:05d}", caption, png(picture))


def example(image: Tensor, truth: Tensor, prediction: Tensor, comparison: Comparison) -> Tensor:
    """Draw an image's four pictures, in two columns unless it is very wide, and the scale: ``(3, H', W')`` uint8."""
    counted = comparison.counted(truth)
    prediction = comparison.prepare(prediction, truth, counted)
    size, columns = layout(*truth.shape)
    image, prediction = (resize(x, size) for x in (image, prediction))
    known, truth = (resize_depth(x, size) for x in (truth, torch.where(counted, truth, 0.0)))
    limit = comparison.max_depth
    parts = [
        functional.to_dtype(image, torch.uint8, scale=True),
        color_depth(known, max_depth=limit),
        color_depth(prediction, max_depth=limit),
        color_error(prediction, truth, truth > 0),
    ]
    rows = [torch.cat(parts[i : i + columns], dim=2) for i in range(0, len(parts), columns)]
    return stack_pictures([*rows, scale_bar(rows[0].shape[2], max_depth=limit)])


def layout(height: int, width: int) -> tuple[tuple[int, int], int]:
    """Return the height and width [px] of each of an image's pictures, and the number of columns."""
    columns = 1 if width > 2 * height else 2
    return (round(height * WIDTH / columns / width), WIDTH // columns), columns


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize ``(..., H, W)`` with antialiasing."""
    return functional.resize(x.reshape(-1, *x.shape[-2:]), list(size), antialias=True).reshape(*x.shape[:-2], *size)
