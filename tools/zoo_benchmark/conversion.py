"""A trained ResNet as an ODE model: equal with a weight for every block; what fewer weights and other steps cost."""

from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from timm.data import create_transform, resolve_data_config
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import ImageFolder

from odebackbones import change_bases, from_resnet, fuse, solver_stats
from odebackbones.bases import BASES
from odebackbones.engine.profile import count_parameters
from odebackbones.engine.report import Table
from odebackbones.engine.solver_transfer import accuracy, solver_transfer, transfer_curves, transfer_table
from odebackbones.errors import InputError
from odebackbones.solver_change import calibrate
from tools.measurement import Claim, Part

BATCH = 250
CALIBRATION_IMAGES = 2000
CLOSENESS = 1e-4
"""Of the converted model's logits."""


def parts(model: nn.Module, data: Path) -> dict[str, Callable[[int], Part]]:
    """The parts, of a trained ResNet.

    Args:
        model: timm's or ours.
        data: Folder with ``train`` and ``test``, each with a folder of images for every class in the classes' order.
    """
    tests, training = (batches(model, data / split) for split in ("test", "train"))
    return {
        "bases": lambda _: fewer_weights(model, tests, list(islice(training, CALIBRATION_IMAGES // BATCH))),
        "steps": lambda _: other_steps(model, tests, list(islice(training, CALIBRATION_IMAGES // BATCH))),
    }


def batches(model: Any, folder: Path) -> DataLoader[Any]:
    """The images in a random but fixed order, as the model wants them, and their classes.

    Raises:
        InputError: There is no such folder, or it has other classes than the model.
    """
    if not folder.is_dir():
        raise InputError(f"--data: no folder {folder}; expected train/CLASS/*.png and test/CLASS/*.png in it")
    transform: Any = create_transform(**resolve_data_config(model=model))
    images = ImageFolder(str(folder), transform)
    if len(images.classes) != model.num_classes:
        raise InputError(f"{folder} has {len(images.classes)} classes, the model {model.num_classes}")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0)).tolist()
    return DataLoader(Subset(images, order), batch_size=BATCH)


def fewer_weights(model: nn.Module, tests: Iterable[Any], training: list[Any]) -> Part:
    """Accuracy and logits with K weights over time, the nearest to the trained ones in every basis."""
    model = model.eval()
    converted = from_resnet(model)
    steps = [stats.steps for stats in solver_stats(converted).values()]
    rows = [("the ResNet", *figures(model, tests), 0.0)]
    for size in dict.fromkeys(tuple(max(1, n // part) for n in steps) for part in (1, 2, 4)):
        is_projected = size != tuple(steps)
        for basis in BASES if is_projected and max(size) > 1 else BASES[:1]:
            projected = change_bases(converted, size, basis=basis)
            if is_projected:
                calibrate(projected, training)
            title = f"K = {' '.join(map(str, size))}, {basis}"
            rows.append((title, *figures(projected, tests), largest_difference(model, projected, tests)))
    columns = ("model", "parameters", "NFE", "accuracy", "largest difference of logits")
    claims = (
        Claim("largest difference of the converted model's logits", rows[1][-1], CLOSENESS),
        Claim("its accuracy, of the ResNet's", rows[1][3] / rows[0][3], 1.0, at_least=True),
    )
    title = "A trained ResNet with K weights over time, projected and calibrated, without further training"
    return Part((Table(title, columns, tuple(rows)),), claims)


def figures(model: nn.Module, tests: Iterable[Any]) -> tuple[int, int, float]:
    """Parameters, evaluations and accuracy."""
    nfe = sum(stats.nfe for stats in solver_stats(model).values())
    return count_parameters(model), nfe, accuracy(fuse(model), tests)


@torch.no_grad()
def largest_difference(model: nn.Module, other: nn.Module, tests: Iterable[Any]) -> float:
    """Of the logits of two models in evaluation mode."""
    return max(float((other.eval()(images) - model(images)).abs().max()) for images, _ in tests)


def other_steps(model: nn.Module, tests: Iterable[Any], training: list[Any]) -> Part:
    """The converted model with its weights for every block, under fewer and more steps, statistics calibrated."""
    converted = from_resnet(model.eval())
    most = max(stats.steps for stats in solver_stats(converted).values())
    steps = sorted({max(1, most * eighths // 8) for eighths in (4, 6, 7, 8, 9, 10, 12, 16)})
    found = solver_transfer(converted, tests, methods=("euler", "midpoint"), steps=steps, calibrate_on=training)
    return Part((transfer_table(found),), curves=transfer_curves(found))
