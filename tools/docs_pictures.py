"""Draw the pictures of README and docs: ``python tools/docs_pictures.py`` after ``make demo demo-depth``."""

import json
import math
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from engine.report.plots import COLORS
from engine.runs.cli import run_tool
from odebackbones.errors import InputError
from odebackbones.ode import SolverConfig, odeint

FOLDER = Path("docs/images")

COSTS = ("parameters of backbone ↓", "training memory of backbone, batch 2 [MiB] ↓", "latency of backbone [ms] ↓")
"""Rows of a comparison over which accuracy is plotted."""

EXAMPLES = {"detection": "example-00000.2-ode_resnet34", "depth": "example-00040.2-ode_vgg16_quarter_bn"}
"""Task -> the picture of its demo's comparison that the documentation shows."""


def main(arguments: list[str]) -> None:
    """Draw all pictures."""
    parser = ArgumentParser(prog="tools/docs_pictures.py", description="Draw the pictures of README and docs.")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder with the demos' runs")
    runs = parser.parse_args(arguments).runs
    FOLDER.mkdir(parents=True, exist_ok=True)
    flow().savefig(FOLDER / "flow.png", dpi=150)
    budgets().savefig(FOLDER / "gradient-modes.png", dpi=150)
    for task, folder in (("detection", runs / "demo/comparison"), ("depth", runs / "demo-depth/comparison")):
        if not (folder / "report.json").is_file():
            raise InputError(f"{folder}: no comparison there; run make demo and make demo-depth first")
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        accuracy_over_costs(report).savefig(FOLDER / f"{task}-costs.png", dpi=150)
        with Image.open(folder / "pictures" / f"{EXAMPLES[task]}.png") as picture:
            picture.convert("RGB").save(FOLDER / f"{task}-example.png", optimize=True)


def turning(t: float, x: torch.Tensor) -> torch.Tensor:
    """Evaluate a field that spirals inward and slows down: ``(N, 2) -> (N, 2)``."""
    return (torch.stack([x[:, 1], -x[:, 0]], dim=1) - 0.35 * x) * math.exp(-t / 3) * 1.4


def path(steps: int, method: str, start: torch.Tensor) -> torch.Tensor:
    """Return the states ``(T, N, 2)`` at the ends of the steps from t = 0 to 3."""
    times = torch.linspace(0.0, 3.0, steps + 1).tolist()
    found = odeint(turning, start, times, SolverConfig(method, 1), parameters=()).states
    assert found is not None
    return found


def flow() -> Figure:
    """Draw a residual network's jumps, and the curve that they discretize."""
    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    start = torch.tensor([[1.0, 0.0], [0.55, 0.0]])
    for axes, steps, title in zip(
        figure.subplots(1, 2, sharex=True, sharey=True),
        (6, 24),
        ("6 residual blocks: 6 Euler steps", "24 Euler steps, the same weights"),
        strict=True,
    ):
        for points, color, style, name in (
            (path(300, "rk4", start), COLORS[0], "-", "the flow of f(t, h)"),
            (path(steps, "euler", start), COLORS[1], "o-", "h + f(h, t) dt"),
        ):
            for i in range(2):
                label = name if i == 0 else None
                axes.plot(*points[:, i].T.tolist(), style, color=color, label=label, markersize=4, linewidth=1.4)
        axes.set_title(title, fontsize=10)
        axes.set_aspect("equal")
        axes.set_xlabel("feature 1")
    figure.axes[1].legend(frameon=False, fontsize=8, loc="lower right")
    figure.axes[0].set_ylabel("feature 2")
    return figure


def budgets() -> Figure:
    """Plot states kept and evaluations made over the number of steps, by gradient mode, from the actual schedules."""
    from odebackbones.ode.integrate import EVALUATIONS_AGAIN
    from odebackbones.ode.schedule import capacity

    steps = list(range(1, 65))
    modes = {
        "backprop (graphs, not states)": ("backprop", "every"),
        "checkpoint, every step": ("checkpoint", "every"),
        "checkpoint, sqrt": ("checkpoint", "sqrt"),
        "checkpoint, 4 states": ("checkpoint", 4),
        "reversible": ("reversible", "every"),
    }
    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    kept, again = figure.subplots(1, 2)
    for i, (name, (gradient, checkpoints)) in enumerate(modes.items()):
        solver = SolverConfig("leapfrog", 4, gradient, checkpoints=checkpoints)
        states = [capacity(checkpoints, n).snapshots if gradient == "checkpoint" else n for n in steps]
        states = [min(n, s) for n, s in zip(steps, states, strict=True)] if gradient != "reversible" else [2] * 64
        evaluations = [1 + sum(EVALUATIONS_AGAIN[gradient](n, solver)) / n for n in steps]
        style = {"color": COLORS[i], "linewidth": 1.6, "label": name, "linestyle": "--" if i == 1 else "-"}
        kept.plot(steps, states, **style)
        again.plot(steps, evaluations, **style)
    kept.set(xlabel="steps", ylabel="states (or graphs) kept", yscale="log")
    again.set(xlabel="steps", ylabel="evaluations per step")
    again.legend(frameon=False, fontsize=7)
    return figure


def accuracy_over_costs(report: dict[str, Any]) -> Figure:
    """Plot a comparison's main accuracy figure over the parameters, memory and latency of its backbones."""
    tables = {table["title"]: table for table in report["tables"]}
    models = tables["Accuracy"]["columns"][1:]
    rows = {row[0]: row[1:] for title in ("Accuracy", "Cost", "Speed") for row in tables[title]["rows"]}
    name = next(row for row in ("AP ↑", "delta1 ↑") if row in rows)
    figure = Figure(figsize=(7.2, 2.6), layout="constrained")
    for axes, cost in zip(figure.subplots(1, len(COSTS), sharey=True), COSTS, strict=True):
        unit = 1e6 if cost.startswith("parameters") else 1.0
        draw_points(axes, models, [cell["value"] / unit for cell in rows[cost]], rows[name])
        label = cost.rstrip(" ↓").replace(" of backbone", "")
        axes.set_xlabel(f"{label} [M]" if unit > 1.0 else label, fontsize=9)
    figure.axes[0].set_ylabel(name.rstrip(" ↑"))
    figure.axes[0].legend(frameon=False, fontsize=7)
    return figure


def draw_points(axes: Axes, models: list[str], costs: list[float], accuracies: list[dict[str, Any]]) -> None:
    """Draw a point with its interval for every model, with the cost axis starting at zero."""
    for i, (model, cost, accuracy) in enumerate(zip(models, costs, accuracies, strict=True)):
        axes.plot([cost, cost], accuracy["interval"], color=COLORS[i], linewidth=1.0)
        axes.plot(cost, accuracy["value"], "osD^"[i % 4], color=COLORS[i], label=model, markersize=7)
    axes.set_xlim(0.0, 1.15 * max(costs))
    axes.grid(alpha=0.3)


if __name__ == "__main__":
    run_tool(main)
