"""A trained ResNet as an ODE model: equal with one weight per block; the cost of fewer weights and other steps."""

from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from timm.data import resolve_model_data_config
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from benchmarks.measurement import Claim, Part
from classification.data.dataset import LabeledImages
from classification.data.sources import FolderImages
from classification.data.transforms import build_transform
from engine.measure.profile import count_parameters
from engine.report.records import Table
from engine.report.transfer import transfer_curves, transfer_table
from odebackbones import change_bases, fit_bases, from_resnet, solver_stats
from odebackbones.convert.solver import calibrate
from odebackbones.errors import InputError
from odebackbones.fields.basis import BASES
from odebackbones.transfer import solver_transfer

BATCH = 250
CALIBRATION_IMAGES = 2000
FIT_IMAGES = 1000
CLOSENESS = 1e-4
"""Largest allowed difference between the logits of the converted model and of the ResNet."""


def parts(model: nn.Module, data: Path) -> dict[str, Callable[[int], Part]]:
    """Return the benchmark parts for a trained ResNet.

    Args:
        model: A ResNet from timm or from this package.
        data: Folder with ``train`` and ``test``, each with one folder of images per class, in the classes' order.
    """
    tests, training = (batches(model, data / split) for split in ("test", "train"))
    return {
        "bases": lambda _: fewer_weights(model, tests, list(islice(training, CALIBRATION_IMAGES // BATCH))),
        "steps": lambda _: other_steps(model, tests, list(islice(training, CALIBRATION_IMAGES // BATCH))),
    }


def batches(model: Any, folder: Path) -> DataLoader[Any]:
    """Load the images with the model's transform, in a random but fixed order, and their classes.

    Raises:
        InputError: The folder does not exist, or its number of classes differs from the model's.
    """
    images = LabeledImages(FolderImages(folder), build_transform(resolve_model_data_config(model)))
    if len(images.classes) != model.num_classes:
        raise InputError(f"{folder} has {len(images.classes)} classes, the model {model.num_classes}")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0)).tolist()
    return DataLoader(Subset(images, order), batch_size=BATCH)


def fewer_weights(model: nn.Module, tests: Iterable[Any], training: list[Any]) -> Part:
    """Measure accuracy and logits with K weights over time: projected onto every basis, and fitted."""
    model, pixels = model.eval(), torch.cat([images for images, _ in training])[:FIT_IMAGES]
    converted = from_resnet(model)
    steps = [stats.steps for stats in solver_stats(converted).values()]
    wanted, labels = logits(model, tests)

    def row(title: str, other: nn.Module) -> tuple[Any, ...]:
        found, _ = logits(other, tests)
        nfe = sum(stats.nfe for stats in solver_stats(other).values())
        accuracy = 100 * float((found.argmax(1) == labels).double().mean())
        return title, count_parameters(other), nfe, accuracy, float((found - wanted).abs().max())

    rows = [row("the ResNet", model), row(f"K = {shown_steps(steps)}", converted)]
    for size in dict.fromkeys(tuple(max(1, n // part) for n in steps) for part in (2, 4)):
        for basis in BASES if max(size) > 1 else BASES[:1]:
            projected = change_bases(converted, size, basis=basis)
            calibrate(projected, training)
            rows.append(row(f"K = {shown_steps(size)}, projected, {basis}", projected))
        for fewer in dict.fromkeys((tuple(steps), size)):
            fitted = fit_bases(converted, size, pixels, steps=fewer)
            rows.append(row(f"K = {shown_steps(size)}, fitted, steps {shown_steps(fewer)}", fitted))
    columns = ("model", "parameters", "NFE", "accuracy [%]", "largest difference of logits")
    claims = (
        Claim("largest difference of the converted model's logits", rows[1][-1], CLOSENESS),
        Claim("its accuracy, of the ResNet's", rows[1][3] / rows[0][3], 1.0, at_least=True),
    )
    title = "A trained ResNet with K weights over time, without further training"
    return Part((Table(title, columns, tuple(rows)),), claims)


@torch.no_grad()
def logits(model: nn.Module, tests: Iterable[Any]) -> tuple[Tensor, Tensor]:
    """Return the logits of all images, in evaluation mode: ``(n, classes)``; and their labels ``(n,)``."""
    model.eval()
    found, labels = zip(*((model(images), labels) for images, labels in tests), strict=True)
    return torch.cat(found), torch.cat(labels)


def shown_steps(numbers: Iterable[int]) -> str:
    """Join numbers with spaces."""
    return " ".join(map(str, numbers))


def other_steps(model: nn.Module, tests: Iterable[Any], training: list[Any]) -> Part:
    """Evaluate the converted model, one weight per block, with fewer and more steps and calibrated statistics."""
    converted = from_resnet(model.eval())
    most = max(stats.steps for stats in solver_stats(converted).values())
    steps = sorted({max(1, most * eighths // 8) for eighths in (4, 6, 7, 8, 9, 10, 12, 16)})
    found = solver_transfer(converted, tests, methods=("euler", "midpoint"), steps=steps, calibrate_on=training)
    return Part((transfer_table(found),), curves=transfer_curves(found))
