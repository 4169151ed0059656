"""Small detectors and pictures for them."""

from dataclasses import replace

import torch

import odebackbones.models  # noqa: F401 (registers the models)
from detection.model import ModelConfig, build_faster_rcnn

CLASSES = 3
SMALL = ModelConfig(
    backbone="ode_resnet18",
    backbone_args={"zero_init_last": False},  # else the fields are zero, and nothing would show their faults
    fpn_channels=32,
    box_head_size=32,
    min_size=[64],
    max_size=128,
    anchor_sizes=[8, 16, 32, 64, 128],
    proposals_train=50,
    proposals_test=50,
    detections=10,
    score_threshold=0.0,
)


RESNET = {"backbone": "resnet18", "backbone_args": {}}


def build(*, seed=0, **changes):
    torch.manual_seed(seed)
    return build_faster_rcnn(replace(SMALL, **changes), num_classes=CLASSES)


def pictures(*sizes, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(3, *size, generator=generator, dtype=dtype) for size in sizes]


def target(*boxes):
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.ones(len(boxes), dtype=torch.int64),
    }


OBJECT, EMPTY = target((5, 6, 40, 50), (20, 10, 60, 30)), target()
