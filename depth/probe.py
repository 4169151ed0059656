"""Model calls of a depth model to measure."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from depth.data.dataset import collate
from depth.distillation import BODY
from engine.measure.calls import features_call, loss_call
from engine.task import Probe
from engine.training.optimization import images_to_device

if TYPE_CHECKING:
    from depth.task import DepthTask


def build_probe(task: "DepthTask", model: nn.Module, device: torch.device) -> Probe:
    """Probe the model on the first validation image, and on a training batch of two copies of it."""
    image, depth = task.val_dataset[0]
    sample = image, depth[0]
    for transform in task.sizing():
        sample = transform(sample)
    batch = collate([(sample[0], sample[1][None])] * 2)

    optim = task.config.optim

    def features() -> list[Tensor]:
        return model.features(images_to_device(batch[0], device, optim))  # pyright: ignore[reportCallIssue]

    height, width = task.config.data.size or image.shape[1:]
    return Probe(
        infer=lambda: task.infer(model, image, device),
        loss=loss_call(model, lambda: task.own_losses(model, batch, device), device, optim),
        parts={"backbone": [model.get_submodule(BODY)], "decoder": [model.get_submodule("decoder")]},
        image_size=(height, width),
        batch_size=2,
        body_loss=features_call(model, features, device, optim),
    )
