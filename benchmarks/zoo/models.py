"""Cost of every registered model, next to its discrete counterpart and the controls."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any

import timm
import torch
from torch import Tensor, nn

import odebackbones  # noqa: F401 (registers the models)
from benchmarks.measurement import Part, times_over
from engine.measure.profile import count_macs, count_parameters, training_memory_mib
from engine.report.records import Table
from odebackbones.block import solver_stats

BATCH = 2
"""Number of images in a training step."""

ONE_BLOCK = {"layers": [2, 2, 2, 2]}
ONE_EVALUATION = {"solver": "euler", "steps": 1}
CHEN_RESNET = {"solver": "euler", "steps": 6, "bases": 6, "duration": 6, "time_channel": False, "last_norm": False}
"""Arguments that turn Chen et al.'s ODE-Net into their ResNet."""


@dataclass(frozen=True)
class Body:
    """A feature extractor, given by its name in timm's registry and its arguments."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)

    def build(self) -> nn.Module:
        """Build the feature extractor with random weights."""
        torch.manual_seed(0)
        return timm.create_model(self.name, features_only=True, **self.arguments)


Group = dict[str, Body]
"""Title -> body: first the replaced body, to which all ratios refer; then the ODE models; then the controls."""


def make_body(*names: str) -> Group:
    """Return bodies with their default arguments, by name."""
    return {name: Body(name) for name in names}


def resnet(name: str, *models: str) -> Group:
    """Return the group of a ResNet, the models that replace it, and the controls."""
    one_block = {"control: one identity block a stage": Body(name, ONE_BLOCK)}
    smaller = {"control: resnet50": Body("resnet50")} if name != "resnet50" else {}
    return make_body(name, *(models or [f"ode_{name}"])) | smaller | one_block


def cifar_resnet(name: str) -> Group:
    """Return the group of a ResNet for images of 32 px."""
    one_block = {"control: one identity block a stage": Body(name, {"blocks": 2})}
    return make_body(name, f"ode_{name}") | {"control: resnet20_cifar": Body("resnet20_cifar")} | one_block


def vgg(name: str) -> Group:
    """Return the group of a VGG, with all fields of its ODE model."""
    fields = {f"ode_{name}, {field}": Body(f"ode_{name}", {"field": field}) for field in ("conv", "depthwise")}
    once = {"control: one evaluation a stage": Body(f"ode_{name}", ONE_EVALUATION)}
    return (
        make_body(name, f"ode_{name}") | fields | once | {f"control: {r}": Body(r) for r in ("resnet101", "resnet50")}
    )


def chen_bodies(name: str, *controls: str) -> Group:
    """Return the group of Chen et al.'s ResNet, the ODE-Net that replaces it, and the controls."""
    return {
        "their ResNet": Body(name, CHEN_RESNET),
        name: Body(name),
        "control: one evaluation": Body(name, ONE_EVALUATION),
        **{f"control: {control}": Body(control) for control in controls},
    }


NUMERICAL = tuple(f"{scheme}_resnet50" for scheme in ("ode", "lm", "poly", "fractal", "rev", "augmented_ode"))
FAMILIES: dict[str, list[Group]] = {
    "resnet": [
        *(resnet(f"resnet{depth}") for depth in (18, 34)),
        resnet("resnet50", *NUMERICAL),
        *(resnet(name) for name in ("resnet101", "resnet152", "wide_resnet50_2", "resnext50_32x4d", "seresnet50")),
    ],
    "caffe": [resnet(f"caffe_resnet{depth}") for depth in (50, 101, 152)],
    "vgg": [
        *(vgg(f"vgg{depth}{norm}") for depth in (11, 13, 16, 19) for norm in ("", "_bn")),
        vgg("vgg16_quarter_bn"),
    ],
    "cifar": [cifar_resnet(f"resnet{depth}_cifar") for depth in (20, 32, 44, 56, 110)],
    "odenet": [chen_bodies("odenet_mnist", "mlp_mnist"), chen_bodies("odenet_cifar")],
}
"""Part of the benchmark -> its groups."""


def images(body: nn.Module, batch: int) -> Tensor:
    """Draw random images of the body's input size."""
    size: Any = body.pretrained_cfg["input_size"]  # pyright: ignore[reportIndexIssue, reportArgumentType, reportCallIssue]
    return torch.rand(batch, *size, generator=torch.Generator().manual_seed(0))


def inference(body: nn.Module) -> Callable[[], None]:
    """Return a call that computes the features of one image."""
    body, image = body.eval(), images(body, 1)

    def call() -> None:
        with torch.inference_mode():
            body(image)

    return call


def training_memory(body: nn.Module) -> float:
    """Measure the peak memory of a forward and backward pass through the last features [MiB]."""
    body, batch = body.train(), images(body, BATCH)
    return training_memory_mib(body, lambda: body(batch)[-1].mean(), torch.device("cpu"))


def measure(group: Group, *, rounds: int) -> Table:
    """Measure a group; return its table."""
    reference = next(iter(group))
    bodies = {title: body.build() for title, body in group.items()}
    calls = {title: inference(body) for title, body in bodies.items()}
    latency, seconds = times_over(reference, calls, rounds=rounds, clock=perf_counter)
    memory = {title: training_memory(body) for title, body in bodies.items()}
    rows = []
    for title, body in bodies.items():
        nfe = " ".join(str(stats.nfe) for stats in solver_stats(body).values())
        macs, _ = count_macs(body, inference(body))
        sizes = count_parameters(body) / 1e6, macs, nfe or "-"
        rows.append((title, *sizes, latency[title], memory[title], memory[title] / memory[reference]))
    columns = ("body", "parameters [M]", "MACs [G]", "NFE", "latency ratio", "training memory [MiB]", "its ratio")
    size = " x ".join(map(str, images(bodies[reference], 1).shape[1:]))
    own = f"its own ({1000 * seconds:.3g} ms)"
    title = f"In place of {reference}, {size}: latency of 1 image over {own}, training memory of {BATCH}"
    return Table(title, columns, tuple(rows))


def run(groups: list[Group], rounds: int) -> Part:
    """Measure every group."""
    return Part(tuple(measure(group, rounds=rounds) for group in groups))


PARTS: dict[str, Callable[[int], Part]] = {family: partial(run, groups) for family, groups in FAMILIES.items()}
"""Name on the command line -> measurement, called with the number of timing rounds."""
