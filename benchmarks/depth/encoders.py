"""Cost of the ODE depth encoders, the encoders they replace and the controls, at the image sizes of KITTI and NYU."""

from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.measurement import Claim, Part, times_over
from depth.decoders import SkipDecoder
from engine.measure.profile import count_macs, count_parameters, peak_memory_mib, training_memory_mib
from engine.report.records import Table
from engine.training.fit import to_device
from engine.weights.timm_models import create, feature_levels
from odebackbones import fuse, solver_stats

SIZES = {"KITTI, 352x1216 px": (352, 1216), "NYU, 416x544 px": (416, 544)}


@dataclass(frozen=True)
class Encoder:
    """A backbone as the depth model uses it.

    Attributes:
        name: timm name of the backbone.
        arguments: Arguments of ``timm.create_model``.
        folded: Whether the norms are folded into the convolutions, to measure latency.
    """

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    folded: bool = False

    def build(self) -> nn.Module:
        """Build the encoder with random weights and non-default norm statistics, in channels-last order.

        The tools train and evaluate in this memory order.
        """
        torch.manual_seed(0)
        levels = feature_levels("encoder", self.name, self.arguments)
        indices = tuple(levels[stride] for stride in SkipDecoder.strides)
        body = create("encoder", self.name, self.arguments, features_only=True, out_indices=indices).train()
        with torch.no_grad():
            body(torch.randn(2, 3, 64, 64))
        body = fuse(body.eval()) if self.folded else body
        return to_device(body, torch.device("cpu"), channels_last=True)


ONE_EVALUATION = {"solver": "euler", "steps": 1}
ONE_BLOCK = {"layers": [2, 2, 2, 2]}
VGG, RESNET = "vgg16_bn", "resnet101"
GROUPS: dict[str, dict[str, Encoder]] = {
    VGG: {
        VGG: Encoder(VGG),
        "vgg16_bn, norms folded": Encoder(VGG, folded=True),
        "vgg16": Encoder("vgg16"),
        "ode_vgg16": Encoder("ode_vgg16"),
        "ode_vgg16_bn": Encoder("ode_vgg16_bn"),
        "ode_vgg16_bn, fused": Encoder("ode_vgg16_bn", folded=True),
        "control: ode_vgg16_bn, one evaluation a stage": Encoder("ode_vgg16_bn", ONE_EVALUATION),
        "control: resnet101": Encoder(RESNET),
        "control: resnet50": Encoder("resnet50"),
    },
    RESNET: {
        RESNET: Encoder(RESNET),
        "ode_resnet101": Encoder("ode_resnet101"),
        "ode_resnet101, 4 snapshots, recompute": Encoder("ode_resnet101", {"checkpoints": 4, "recompute": True}),
        "control: resnet101, one identity block a stage": Encoder(RESNET, ONE_BLOCK),
        "control: resnet50": Encoder("resnet50"),
    },
}
"""Replaced encoder -> rows of its table; ratios are relative to the first row."""

ALIKE = {"ode_vgg16": "vgg16", "ode_vgg16_bn": "vgg16_bn", "ode_vgg16_bn, fused": "vgg16_bn, norms folded"}
"""ODE-VGG -> the VGG with the same normalization."""

BOUNDS = {"parameters": 0.25, "MACs": 0.55, "latency": 0.75, "activations": 0.6}
"""Largest allowed ratios of ``ode_vgg16`` to ``vgg16_bn``."""


def inference(body: nn.Module, image: Tensor) -> Callable[[], None]:
    """Return a call that computes the features of one image."""
    body = body.eval()

    def call() -> None:
        with torch.inference_mode():
            body(image)

    return call


def activations(body: nn.Module, image: Tensor) -> tuple[float, float]:
    """Measure the training memory [MiB] of an image: in total, and beyond the gradients."""
    body = body.train()
    device = torch.device("cpu")

    def loss() -> Tensor:
        return torch.stack([level.mean() for level in body(image)]).sum()

    whole = training_memory_mib(body, loss, device)
    loss().backward()  # the gradients are allocated from now on, and later passes add to them
    beyond = peak_memory_mib(lambda: loss().backward(), device)
    body.zero_grad(set_to_none=True)
    return whole, beyond


def measure(group: dict[str, Encoder], size: tuple[int, int], *, rounds: int) -> dict[str, dict[str, float | str]]:
    """Return row -> figures; the latency [ms] is a ratio to the first row, times the first row's median."""
    reference = next(iter(group))
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    image = image.contiguous(memory_format=torch.channels_last)
    bodies = {row: encoder.build() for row, encoder in group.items()}
    macs = {row: count_macs(body, inference(body, image))[0] for row, body in bodies.items()}
    ratios, seconds = times_over(
        reference, {row: inference(body, image) for row, body in bodies.items()}, rounds=rounds, clock=perf_counter
    )
    found = {}
    for row, body in bodies.items():
        nfe = " ".join(str(stats.nfe) for stats in solver_stats(body).values())
        whole, beyond = (float("nan"),) * 2 if group[row].folded else activations(body, image)
        found[row] = {
            "parameters": count_parameters(body) / 1e6,
            "MACs": macs[row],
            "NFE": nfe or "-",
            "latency": 1000 * seconds * ratios[row],
            "training memory": whole,
            "activations": beyond,
        }
    return found


def table(title: str, found: dict[str, dict[str, Any]]) -> Table:
    """Build the table of the figures, each with its ratio to the first row."""
    reference = next(iter(found.values()))
    units = {"parameters": "M", "MACs": "G", "latency": "ms", "training memory": "MiB", "activations": "MiB"}
    columns = ["encoder", "NFE"]
    for name, unit in units.items():
        columns += [f"{name} [{unit}]", "ratio"]
    rows = []
    for row, figures in found.items():
        pairs = [(figures[name], figures[name] / reference[name]) for name in units]
        rows.append((row, figures["NFE"], *(value for pair in pairs for value in pair)))
    return Table(title, tuple(columns), tuple(rows))


def table_alike(title: str, found: dict[str, dict[str, Any]]) -> Table:
    """Build the table of the ratios between encoders that differ in the flow alone."""
    rows = tuple(
        (f"{ours} of {theirs}", *(found[ours][name] / found[theirs][name] for name in BOUNDS))
        for ours, theirs in ALIKE.items()
    )
    return Table(title, ("encoder", *BOUNDS), rows)


def run(rounds: int) -> Part:
    """Measure with torch's current number of threads."""
    tables, claims = [], []
    for data, size in SIZES.items():
        for reference, group in GROUPS.items():
            found: dict[str, dict[str, Any]] = measure(group, size, rounds=rounds)
            tables.append(table(f"Encoders in place of {reference}, {data}, one image", found))
            if reference == VGG:
                tables.append(table_alike(f"Like with like, {data}", found))
                ours, theirs = found["ode_vgg16"], found[VGG]
                claims += [
                    Claim(f"{data}: {name} of ode_vgg16 over {VGG}'s", ours[name] / theirs[name], bound)
                    for name, bound in BOUNDS.items()
                ]
    return Part(tuple(tables), tuple(claims))
