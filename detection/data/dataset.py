"""Annotations as a torch dataset."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional

from detection.data.records import Annotations, ImageRecord
from engine.images.files import UNREADABLE, read_image_file, reason
from odebackbones.errors import InputError

Target = dict[str, Any]
Sample = tuple[torch.Tensor, Target]


class DetectionDataset(Dataset[Sample]):
    """Images and targets in the format of torchvision's detectors.

    A sample is an image, uint8 (3, H, W), and a target with ``boxes`` (x1, y1, x2, y2 [px], float32 (N, 4)), ``labels``
    (int64 (N,)), ``image_id`` (int), ``area`` (of the object in the file [px^2], float32 (N,)) and ``iscrowd``
    (int64 (N,)). An image is turned upright if its boxes refer to the upright image.

    Args:
        annotations: Annotations of the images.
        transforms: Function called as ``transforms(image, target)`` with ``tv_tensors`` for the image and the boxes.
        keep_crowds: Keep the regions that matching ignores, for evaluation; training leaves them out.
    """

    def __init__(
        self,
        annotations: Annotations,
        transforms: Callable[[Any, Target], Sample] | None = None,
        *,
        keep_crowds: bool,
    ) -> None:
        self.annotations = annotations
        self.transforms = transforms
        self.keep_crowds = keep_crowds

    def __len__(self) -> int:
        return len(self.annotations.images)

    def __getitem__(self, index: int) -> Sample:
        """Return an image and its target.

        Raises:
            InputError: The file cannot be decoded.
        """
        record = self.annotations.images[index]
        image, target = _decode(record), self._target(record)
        return (image, target) if self.transforms is None else self.transforms(image, target)

    def _target(self, record: ImageRecord) -> Target:
        kept = np.ones_like(record.crowd) if self.keep_crowds else ~record.crowd
        boxes = torch.from_numpy(record.boxes[kept])
        size = (record.height, record.width)
        return {
            "boxes": tv_tensors.BoundingBoxes(boxes, format=tv_tensors.BoundingBoxFormat.XYXY, canvas_size=size),  # pyright: ignore[reportCallIssue]
            "labels": torch.from_numpy(record.labels[kept]),
            "image_id": record.image_id,
            "area": torch.from_numpy(record.area[kept]),
            "iscrowd": torch.from_numpy(record.crowd[kept].astype(np.int64)),
        }


def collate(batch: Sequence[Sample]) -> tuple[list[torch.Tensor], list[Target]]:
    """Convert samples to lists of images and targets, as images differ in size."""
    images, targets = zip(*batch, strict=True)
    return list(images), list(targets)


def _decode(record: ImageRecord) -> tv_tensors.Image:
    """Read an image, uint8 (3, H, W)."""
    try:
        return tv_tensors.Image(functional.pil_to_tensor(read_image_file(record.path, turn=record.turned)))
    except UNREADABLE as error:
        raise InputError(
            f"{record.path}: image cannot be read ({reason(error)}); re-download it, "
            "or pass --data.strict false --data.verify true to leave it out"
        ) from error
