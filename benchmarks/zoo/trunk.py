"""Is a trained ResNet's longest stage an ODE? Its features under other steps and fewer weights, and how it moves."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from benchmarks.measurement import Claim, Part
from benchmarks.zoo.motion import motion_curves, motion_table
from benchmarks.zoo.probes import probe_accuracies
from classification.data.dataset import LabeledImages
from classification.data.sources import FolderImages
from classification.data.transforms import build_transform
from engine.measure.profile import count_parameters
from engine.report.records import Table
from engine.report.transfer import transfer_curves, transfer_table
from engine.weights.timm_models import create_features
from odebackbones import change_bases, fit_bases, from_resnet
from odebackbones.block import ODEBlock, ode_blocks
from odebackbones.convert.fit import collect_inputs
from odebackbones.convert.solver import calibrate
from odebackbones.errors import InputError
from odebackbones.transfer import solver_transfer

BATCH = 100
CLASSES, IMAGES, TESTS, UNLABELED = 20, 50, 50, 500
"""Number of classes, of images and of test images of each class, and of all images without labels."""

RATE, EPOCHS, DISTILLED_BATCH = 3e-4, 10, 20
"""Learning rate, epochs and batch of the distillation."""

SIZE = 128
"""Height and width of the images [px]."""

CLOSENESS = 1e-4
"""Largest allowed difference of the converted stage's features, of their largest value."""


class Trunk:
    """A trained ResNet up to its longest stage, and the states of images before the flow of that stage.

    Args:
        name: timm name of the ResNet.
        weights: File with its weights; stages after the longest one may be missing.
        data: Folder with ``train`` and ``val``, each with one folder of images per class.
    """

    def __init__(self, name: str, weights: Path, data: Path) -> None:
        whole: Any = create_features("--model", name, {}, levels=[1, 2, 3, 4])
        lengths = [len(getattr(whole, f"layer{i}")) for i in (1, 2, 3, 4)]
        self.level, self.name, self.data = 1 + lengths.index(max(lengths)), name, data
        body = create_features("--model", name, {}, levels=[self.level], pretrained=str(weights))
        self.body = from_resnet(body.eval())
        self.plain = body
        self.block: ODEBlock = ode_blocks(self.body)[-1]

    def images(self, split: str, *, first: int, number: int) -> Subset[Any]:
        """Return ``number`` images of every class, from the ``first`` one on."""
        config = {"input_size": (3, SIZE, SIZE), "crop_pct": 1.0, "interpolation": "bicubic"}
        config |= {key: self.body.pretrained_cfg[key] for key in ("mean", "std")}  # pyright: ignore
        images = LabeledImages(FolderImages(self.data / split), build_transform(config))
        places: dict[int, list[int]] = {}
        for place, label in enumerate(images.labels):
            places.setdefault(label, []).append(place)
        chosen = list(places.values())[:CLASSES]
        fewest = min(map(len, chosen))
        if fewest <= first:
            raise InputError(f"{self.data / split}: a class has {fewest} images; expected more than {first}")
        return Subset(images, [place for found in chosen for place in found[first : first + number]])

    @torch.no_grad()
    def states(self, images: Subset[Any]) -> tuple[Tensor, Tensor]:
        """Return the states before the flow, ``(N, C, H, W)``, and the labels ``(N,)``."""
        found = [(collect_inputs(self.body, self.block, x), y) for x, y in DataLoader(images, batch_size=BATCH)]
        states, labels = zip(*found, strict=True)
        return torch.cat(states), torch.cat(labels)

    @cached_property
    def known(self) -> tuple[Tensor, Tensor]:
        """States and labels of the images whose classes the probes know."""
        return self.states(self.images("train", first=0, number=IMAGES))

    @cached_property
    def tests(self) -> tuple[Tensor, Tensor]:
        """States and labels of the test images."""
        return self.states(self.images("val", first=0, number=TESTS))

    @cached_property
    def unlabeled(self) -> Tensor:
        """States of further images, without labels."""
        return self.states(self.images("train", first=IMAGES, number=UNLABELED // CLASSES))[0]

    @torch.no_grad()
    def features(self, flow: nn.Module, states: Tensor) -> Tensor:
        """Return the means over the pixels after the flow: ``(N, C)``."""
        return torch.cat([flow(chunk).mean((2, 3)) for chunk in states.split(BATCH)])

    def probe(self, flow: nn.Module, data: Any = None) -> Mapping[str, float]:
        """Return the probes' accuracies on the features after a flow."""
        (states, labels), (tests, test_labels) = self.known, self.tests
        flow.eval()
        return probe_accuracies(self.features(flow, states), labels, self.features(flow, tests), test_labels)


def parts(name: str, weights: Path, data: Path) -> dict[str, Callable[[int], Part]]:
    """Return the benchmark parts for a trained ResNet; the arguments are as in :class:`Trunk`."""
    trunk = Trunk(name, weights, data)
    return {
        "steps": lambda _: other_steps(trunk),
        "bases": lambda _: fewer_weights(trunk),
        "distilled": lambda _: distilled_weights(trunk),
        "motion": lambda _: motion(trunk),
    }


def other_steps(trunk: Trunk) -> Part:
    """Probe the features under other numbers of steps and methods, with statistics estimated again without labels."""
    most = trunk.block.solver.steps or 1
    steps = sorted({max(1, round(most * share)) for share in (1 / 7, 1 / 4, 1 / 2, 1, 2)})
    chunks = trunk.unlabeled.split(BATCH)
    found = solver_transfer(
        nn.Sequential(trunk.block),
        [None],
        metric=trunk.probe,
        methods=("euler", "midpoint", "heun"),
        steps=steps,
        calibrate_on=chunks,
    )
    return Part((transfer_table(found, name="nearest class mean"),), curves=transfer_curves(found))


def numbers_of_weights(trunk: Trunk) -> list[int]:
    """Return the numbers of weights over time that are tried, fewer than the steps."""
    most = trunk.block.solver.steps or 1
    return list(dict.fromkeys(max(1, round(most / part)) for part in (2, 3, 5, 12, 35)))


def weights_table(trunk: Trunk, title: str, flows: Iterable[tuple[str, nn.Module]]) -> Table:
    """Lay out size and probes of some flows, and how far their features are from those of the trained stage."""
    wanted, rows, columns = trunk.features(trunk.block, trunk.tests[0]), [], ()
    for name, flow in flows:
        found = trunk.probe(flow)
        error = float((trunk.features(flow, trunk.tests[0]) - wanted).norm() / wanted.norm())
        rows.append((name, count_parameters(flow), *found.values(), error))
        columns = ("weights", "parameters", *found, "relative error of the features")
    return Table(f"{trunk.name}: stage {trunk.level} with K weights over time, {title}", columns, tuple(rows))


def fewer_weights(trunk: Trunk) -> Part:
    """Probe the features with K weights over time: projected, and fitted to the states, without labels."""
    flow, most = nn.Sequential(trunk.block), trunk.block.solver.steps or 1

    def flows() -> Iterator[tuple[str, nn.Module]]:
        yield "without the flow", nn.Identity()
        yield f"K = {most}, converted", flow
        for size in numbers_of_weights(trunk):
            projected = change_bases(flow, size)
            calibrate(projected, trunk.unlabeled.split(BATCH))
            yield f"K = {size}, projected", projected
            for steps in dict.fromkeys((most, size)):
                yield f"K = {size}, fitted, {steps} steps", fit_bases(flow, size, trunk.unlabeled, steps=steps)

    table = weights_table(trunk, "without further training", flows())
    with torch.no_grad():
        images = next(iter(DataLoader(trunk.images("val", first=0, number=1), batch_size=BATCH)))[0]
        own, theirs = trunk.body(images)[0], trunk.plain(images)[0]
    claim = Claim(
        "difference of the converted stage", float((own - theirs).abs().max() / theirs.abs().max()), CLOSENESS
    )
    return Part((table,), (claim,))


def distilled_weights(trunk: Trunk) -> Part:
    """Probe the features of as many steps as weights, fitted and then trained toward the trained stage's states."""

    def flows() -> Iterator[tuple[str, nn.Module]]:
        for size in numbers_of_weights(trunk):
            fitted = fit_bases(nn.Sequential(trunk.block), size, trunk.unlabeled, steps=size)
            distill_states(fitted, trunk.block, trunk.unlabeled)
            yield f"K = {size}, fitted, {size} steps, distilled", fitted

    return Part((weights_table(trunk, "distilled on images without labels", flows()),))


def distill_states(flow: nn.Module, teacher: nn.Module, states: Tensor) -> None:
    """Train the weights of a flow in place, so that it ends at the teacher's states; its norms' statistics stay."""
    with torch.no_grad():
        targets = torch.cat([teacher(chunk) for chunk in states.split(BATCH)])
    flow.eval()
    optimizer = torch.optim.AdamW(flow.parameters(), lr=RATE)
    order, updates = torch.Generator().manual_seed(0), EPOCHS * -(-len(states) // DISTILLED_BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=updates)
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(states), generator=order).split(DISTILLED_BATCH):
            loss = F.mse_loss(flow(states[chosen]), targets[chosen]) / targets.square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def motion(trunk: Trunk) -> Part:
    """Measure how states and weights move along the stage."""
    states = trunk.tests[0][:: max(1, len(trunk.tests[0]) // BATCH)]
    rows = motion_table(trunk.block, states)
    return Part((rows,), curves=motion_curves(rows))
