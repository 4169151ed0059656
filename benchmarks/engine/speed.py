"""Overhead of an integration step, and latency of ode_resnet101's body compared with ResNet-101's."""

from collections.abc import Callable
from time import perf_counter
from typing import Any

import timm
import torch
import torchdiffeq
from torch import Tensor, nn

import odebackbones
from benchmarks.measurement import Claim, Part, times_over
from engine.report.records import Table
from odebackbones.ode import SolverConfig, odeint

TINY_STEPS, TINY_SOLVES = 64, 50
BODY_SIZE_PX = 320


@torch.no_grad()
def overhead(rounds: int) -> tuple[Table, list[Claim]]:
    """Measure the wall time of an Euler step [us] on a state of 8 numbers, where the field costs next to nothing."""
    state, h = torch.zeros(8), 1.0 / TINY_STEPS

    def identity(t: Any, x: Tensor) -> Tensor:
        return x

    def bare() -> Tensor:
        x = state
        for i in range(TINY_STEPS):
            x = x + h * identity(i * h, x)
        return x

    ends = torch.tensor([0.0, 1.0])
    solver = SolverConfig("euler", TINY_STEPS, "backprop")
    calls: dict[str, Callable[[], Any]] = {
        "bare loop": bare,
        "torchdiffeq": lambda: torchdiffeq.odeint(identity, state, ends, method="euler", options={"step_size": h}),
        "odeint": lambda: odeint(identity, state, solver=solver),
    }
    ratio, reference = times_over(
        "torchdiffeq",
        {name: lambda c=call: [c() for _ in range(TINY_SOLVES)] for name, call in calls.items()},
        rounds=rounds,
        clock=perf_counter,
    )
    us = 1e6 * reference / TINY_STEPS / TINY_SOLVES
    rows = tuple((name, us * found, found) for name, found in ratio.items())
    table = Table("Overhead of an Euler step on 8 numbers [us]", ("loop", "us", "of torchdiffeq's"), rows)
    return table, [Claim("overhead of a step, of torchdiffeq's", ratio["odeint"], 0.5)]


def body(name: str, **kwargs: Any) -> nn.Module:
    """Build a feature extractor with four levels and norm statistics estimated from random images."""
    torch.manual_seed(0)
    model = timm.create_model(
        name, features_only=True, out_indices=(1, 2, 3, 4), zero_init_last=False, **kwargs
    ).train()
    with torch.no_grad():
        for _ in range(2):
            model(torch.randn(2, 3, 64, 64))
    return model.eval()


def bodies() -> dict[str, tuple[nn.Module, torch.memory_format]]:
    """Build ResNet-101, its ODE model with 22 evaluations in stage 3, and the controls, with their memory formats."""
    ode, resnet, fuse = body("ode_resnet101"), body("resnet101"), odebackbones.fuse
    plain, last = torch.contiguous_format, torch.channels_last
    return {
        "resnet101": (resnet, plain),
        "resnet101, norms folded": (fuse(resnet), plain),
        "resnet101, norms folded, channels_last": (fuse(resnet), last),
        "resnet101, fused and prepacked": (fuse(resnet, prepack=True), last),
        "ode_resnet101": (ode, plain),
        "ode_resnet101, fused, channels_last": (fuse(ode), last),
        "ode_resnet101, fused and prepacked": (fuse(ode, prepack=True), last),
        "control: resnet50": (body("resnet50"), plain),
        "control: resnet101, one identity block a stage": (body("resnet101", layers=[2, 2, 2, 2]), plain),
    }


def latency(rounds: int) -> tuple[Table, list[Claim]]:
    """Measure the wall time of each body on one image [ms], the models taking turns."""
    image = torch.rand(1, 3, BODY_SIZE_PX, BODY_SIZE_PX)
    ratio, reference = times_over(
        "resnet101",
        {name: inference(model, image, memory_format) for name, (model, memory_format) in bodies().items()},
        rounds=rounds,
        clock=perf_counter,
    )
    folded = ratio["resnet101, norms folded"]
    rows = tuple((name, 1000 * reference * found, found, found / folded) for name, found in ratio.items())
    title = f"Latency of the body, 1 image of {BODY_SIZE_PX} px, {torch.get_num_threads()} threads"
    fused = ratio["ode_resnet101, fused and prepacked"]
    return Table(title, ("body", "ms", "of resnet101", "of folded resnet101"), rows), [
        Claim(f"{title}: fused ode_resnet101 of resnet101", fused, 0.95),
        Claim(f"{title}: fused ode_resnet101 of resnet101 with folded norms", fused / folded, 1.0),
    ]


def inference(model: nn.Module, image: Tensor, memory_format: torch.memory_format) -> Callable[[], None]:
    """Return a call of the model on the image, both in this memory format."""
    model, image = model.to(memory_format=memory_format), image.contiguous(memory_format=memory_format)  # pyright: ignore[reportCallIssue]

    def call() -> None:
        with torch.inference_mode():
            model(image)

    return call


def run(rounds: int) -> Part:
    """Measure with torch's current number of threads."""
    (first, claims), (second, more) = overhead(rounds), latency(rounds)
    return Part((first, second), (*claims, *more))
