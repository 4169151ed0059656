"""A small classification data set that needs no download: gray crops of the generated shapes."""

import cv2
import numpy as np
import torch
from torch import Tensor

from detection.data.draw import OUTLINES, draw_scene

SIZE_PX = 24
SCENE_PX = 96
TRAIN_CROPS, TEST_CROPS = 2000, 1000

Batch = tuple[Tensor, Tensor]


def draw_crops(count: int, *, seed: int) -> Batch:
    """Draw crops ``(count, 1, 24, 24)`` in [-0.5, 0.5] and their classes ``(count,)``, determined by the seed."""
    rng = np.random.default_rng(seed)
    images: list[np.ndarray] = []
    labels: list[int] = []
    while len(images) < count:
        scene, objects = draw_scene(rng, SCENE_PX)
        gray = cv2.cvtColor(scene, cv2.COLOR_RGB2GRAY)
        for drawn in objects:
            x, y, width, height = cv2.boundingRect(drawn.mask)
            images.append(cv2.resize(gray[y : y + height, x : x + width], (SIZE_PX, SIZE_PX)))
            labels.append(list(OUTLINES).index(drawn.name))
    stacked = torch.from_numpy(np.stack(images[:count])).float() / 255 - 0.5
    return stacked[:, None], torch.tensor(labels[:count])


def train_and_test() -> tuple[Batch, Batch]:
    """Draw the training crops and the test crops."""
    return draw_crops(TRAIN_CROPS, seed=0), draw_crops(TEST_CROPS, seed=1)


def batches(data: Batch, *, size: int, seed: int) -> list[Batch]:
    """Split the data into an epoch's batches, in an order determined by the seed."""
    order = torch.randperm(len(data[1]), generator=torch.Generator().manual_seed(seed))
    return [(data[0][index], data[1][index]) for index in order.split(size)]
