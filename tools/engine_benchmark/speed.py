"""Overhead of a step, and latency of the body of ode_resnet101 beside ResNet-101's."""

from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import timm
import torch
import torchdiffeq
from torch import Tensor, nn

import odebackbones
from odebackbones.engine.report import Table
from odebackbones.ode import SolverConfig, odeint

from .claims import Claim, Part, interleaved, median_ratio

TINY_STEPS, TINY_SOLVES = 64, 50
BODY_SIZE_PX = 320

CONTROLS = {"resnet50": {}, "resnet101": {"layers": [2, 2, 2, 2]}}


@torch.no_grad()
def overhead(rounds: int) -> tuple[Table, list[Claim]]:
    """Wall time of an Euler step on a state of 8 numbers [us], where the field costs next to nothing."""
    state, h = torch.zeros(8), 1.0 / TINY_STEPS

    def identity(t: Any, x: Tensor) -> Tensor:
        return x

    def bare() -> Tensor:
        x = state
        for i in range(TINY_STEPS):
            x = x + h * identity(i * h, x)
        return x

    times = torch.tensor([0.0, 1.0])
    solver = SolverConfig("euler", TINY_STEPS, "backprop")
    calls: dict[str, Callable[[], Any]] = {
        "bare loop": bare,
        "torchdiffeq": lambda: torchdiffeq.odeint(identity, state, times, method="euler", options={"step_size": h}),
        "odeint": lambda: odeint(identity, state, solver=solver),
    }
    best = interleaved(
        {name: lambda c=call: [c() for _ in range(TINY_SOLVES)] for name, call in calls.items()},
        rounds=max(rounds, 5),
        clock=perf_counter,
    )
    per_step = {name: 1e6 * min(found) / TINY_STEPS / TINY_SOLVES for name, found in best.items()}
    rows = tuple((name, value, value / per_step["torchdiffeq"]) for name, value in per_step.items())
    table = Table("Overhead of an Euler step on 8 numbers [us]", ("loop", "us", "of torchdiffeq's"), rows)
    ratio = per_step["odeint"] / per_step["torchdiffeq"]
    return table, [Claim("overhead of a step, of torchdiffeq's", ratio, 0.5)]


def body(name: str, **kwargs: Any) -> nn.Module:
    """A feature extractor with four levels, its statistics estimated from random images."""
    torch.manual_seed(0)
    model = timm.create_model(
        name, features_only=True, out_indices=(1, 2, 3, 4), zero_init_last=False, **kwargs
    ).train()
    with torch.no_grad():
        for _ in range(2):
            model(torch.randn(2, 3, 64, 64))
    return model.eval()


def bodies() -> dict[str, nn.Module]:
    """ResNet-101, its ODE replacement at 22 evaluations in stage 3, and the controls, each as fast as it can be."""
    ode, resnet = body("ode_resnet101"), body("resnet101")
    fused_ode, fused = odebackbones.fuse(ode, prepack=True), odebackbones.fuse(resnet)
    return {
        "resnet101": resnet,
        "resnet101, norms folded": fused,
        "resnet101, norms folded, channels_last": channels_last(fused),
        "resnet101, fused and prepacked": channels_last(odebackbones.fuse(resnet, prepack=True)),
        "ode_resnet101": ode,
        "ode_resnet101, fused": channels_last(odebackbones.fuse(ode)),
        "ode_resnet101, fused and prepacked": channels_last(fused_ode),
        "control: resnet50": body("resnet50"),
        "control: resnet101, one identity block a stage": body("resnet101", layers=[2, 2, 2, 2]),
    }


def channels_last(model: nn.Module) -> nn.Module:
    """The model in channels-last order."""
    return model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def latency(rounds: int) -> tuple[Table, list[Claim]]:
    """Wall time of a body on one image [ms], the models in turn."""
    image = torch.rand(1, 3, BODY_SIZE_PX, BODY_SIZE_PX)
    images = {True: image.contiguous(memory_format=torch.channels_last), False: image}
    models = bodies()

    def call(name: str, model: nn.Module) -> None:
        with torch.inference_mode():
            model(images["fused" in name or "channels_last" in name])

    times = interleaved(
        {name: lambda n=name, m=model: call(n, m) for name, model in models.items()},
        rounds=max(rounds, 9),
        clock=perf_counter,
    )
    plain, folded = times["resnet101"], times["resnet101, norms folded"]
    rows = tuple(
        (name, 1000 * median(found), median_ratio(found, plain), median_ratio(found, folded))
        for name, found in times.items()
    )
    title = f"Latency of the body, 1 image of {BODY_SIZE_PX} px, {torch.get_num_threads()} threads"
    ode = times["ode_resnet101, fused and prepacked"]
    return Table(title, ("body", "ms", "of resnet101", "of folded resnet101"), rows), [
        Claim(f"{title}: fused ode_resnet101 of resnet101", median_ratio(ode, plain), 0.95),
        Claim(f"{title}: fused ode_resnet101 of resnet101 with folded norms", median_ratio(ode, folded), 1.0),
    ]


def run(rounds: int) -> Part:
    """Measure on one thread."""
    (first, claims), (second, more) = overhead(rounds), latency(rounds)
    return Part((first, second), (*claims, *more))
