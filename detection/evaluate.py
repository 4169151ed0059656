"""Detection on images and data sets."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from detection.coco_evaluation import to_coco_results
from detection.data.dataset import DetectionDataset, collate
from engine.config import OptimConfig
from engine.distributed import gather_lists, share
from engine.training.evaluation import evaluation_batches
from engine.training.optimization import autocast


def detect(model: nn.Module, images: list[Tensor], device: torch.device, optim: OptimConfig) -> list[dict[str, Tensor]]:
    """Detect objects in ``images``; return the detections on the CPU.

    Args:
        model: A detector with torchvision's interface; it is set to evaluation mode.
        images: Images ``(3, H, W)`` in [0, 1], of any sizes.
        device: Device of the model.
        optim: Settings of the precision.

    Returns:
        For each image ``boxes: (N, 4)`` xyxy [px], ``labels: (N,)``, ``scores: (N,)``.
    """
    if model.training:  # setting the mode visits all modules, so not in every timed call
        model.eval()
    with torch.inference_mode(), autocast(device, optim):
        detections = model([image.to(device) for image in images])
    return [{name: value.cpu() for name, value in found.items()} for found in detections]


def count_proposals(model: nn.Module, call: Callable[[], Any]) -> int:
    """Count the proposals that the RPN passes on during ``call``: the RoI heads' time is proportional to them."""
    counts: list[int] = []
    rpn = model.get_submodule("rpn")
    handle = rpn.register_forward_hook(lambda module, inputs, output: counts.extend(map(len, output[0])))
    try:
        call()
    finally:
        handle.remove()
    return sum(counts)


def predict_dataset(
    model: nn.Module, dataset: DetectionDataset, device: torch.device, optim: OptimConfig, *, workers: int
) -> list[dict[str, Any]]:
    """Return all detections in COCO's results format, using each image once for any number of processes.

    Images are processed one by one: torchvision pads a batch to one size, and results would depend on it.
    """
    records = dataset.annotations.images
    category_ids = dataset.annotations.category_ids
    indices = list(share(len(records)))
    batches = evaluation_batches(dataset, indices, workers=workers, batch_size=1, collate=collate)
    results: list[dict[str, Any]] = []
    for index, (images, _) in zip(indices, batches, strict=True):
        found = detect(model, images, device, optim)
        results += to_coco_results([records[index].image_id], found, category_ids)
    return gather_lists(results)
