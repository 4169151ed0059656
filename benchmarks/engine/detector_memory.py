"""Training memory of Faster R-CNN on ode_resnet101 and on ResNet-101."""

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.measurement import Claim, Part
from detection.model import ModelConfig, build_faster_rcnn
from engine.measure.profile import peak_memory_mib, training_memory_mib
from engine.report.records import Table
from odebackbones import recompute_blocks

BATCH = 2
SIZES_PX = (320, 640)
REVERSIBLE = {"solver": "leapfrog", "gradient": "reversible"}
BACKBONES: dict[str, tuple[str, dict[str, Any], bool]] = {
    "resnet101": ("resnet101", {}, False),
    "ode_resnet101, checkpoint": ("ode_resnet101", {}, False),
    "ode_resnet101, checkpoint 4": ("ode_resnet101", {"checkpoints": 4}, False),
    "ode_resnet101, reversible": ("ode_resnet101", REVERSIBLE, False),
    "ode_resnet101, checkpoint 4, blocks recomputed": ("ode_resnet101", {"checkpoints": 4}, True),
    "ode_resnet101, reversible, blocks recomputed": ("ode_resnet101", REVERSIBLE, True),
    "control: resnet50": ("resnet50", {}, False),
    "control: resnet101, one identity block a stage": ("resnet101", {"layers": [2, 2, 2, 2]}, False),
    "control: resnet101, blocks recomputed": ("resnet101", {}, True),
}
"""Row -> backbone, its arguments, and whether its discrete blocks are recomputed."""

REFERENCE = "resnet101"


def losses(detector: nn.Module, size: int) -> Tensor:
    """Return the summed losses of a batch of random images with one box each."""
    images = [torch.rand(3, size, size, generator=torch.Generator().manual_seed(i)) for i in range(BATCH)]
    target = {"boxes": torch.tensor([[20.0, 20.0, 200.0, 220.0]]), "labels": torch.tensor([1])}
    return torch.stack(list(detector(images, [target] * BATCH).values())).sum()


def body_loss(body: nn.Module, size: int) -> Tensor:
    """Return a loss on the backbone's features alone."""
    images = torch.rand(BATCH, 3, size, size, generator=torch.Generator().manual_seed(0))
    return torch.stack([level.mean() for level in body(images)]).sum()


def measure(name: str, size: int) -> tuple[float, float, float]:
    """Measure the training memory [MiB] of the whole detector, of its body, and of the body beyond its gradients."""
    backbone, kwargs, recompute = BACKBONES[name]
    torch.manual_seed(0)
    config = ModelConfig(backbone=backbone, backbone_args=kwargs, min_size=[size], max_size=size)
    detector = build_faster_rcnn(config, num_classes=3).train()
    body = detector.get_submodule("backbone.body")
    recompute_blocks(body, enable=recompute)
    whole = training_memory_mib(detector, lambda: losses(detector, size), torch.device("cpu"))
    alone = training_memory_mib(body, lambda: body_loss(body, size), torch.device("cpu"))
    body_loss(body, size).backward()  # the gradients are allocated from now on, and later passes add to them
    activations = peak_memory_mib(lambda: body_loss(body, size).backward(), torch.device("cpu"))
    return whole, alone, activations


def run(rounds: int) -> Part:
    """Measure training memory; nothing is timed."""
    tables, claims = [], []
    for size in SIZES_PX:
        found = {name: measure(name, size) for name in BACKBONES}
        activations = {name: values[2] / found[REFERENCE][2] for name, values in found.items()}
        rows = tuple((name, *values, activations[name]) for name, values in found.items())
        columns = ("backbone", "detector", "body", "body's activations", "of resnet101's")
        tables.append(Table(f"Training memory of Faster R-CNN [MiB], {size} px, batch {BATCH}", columns, rows))
        best = min(ratio for name, ratio in activations.items() if name.startswith("ode"))
        claims.append(Claim(f"body's activation memory of ResNet-101's, {size} px, the best mode", best, 0.35))
    return Part(tuple(tables), tuple(claims))
