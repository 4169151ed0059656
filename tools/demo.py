"""Demos: train an ODE-Net, the network that it replaces and a fair control, and compare them."""

from dataclasses import dataclass
from pathlib import Path

from engine.runs.cli import pick_task, run_tool
from engine.weights.checkpoint import LAST
from tools import compare, train
from tools.tasks import TASKS

CONFIGS = Path(__file__).parent.parent / "configs"


@dataclass(frozen=True)
class Demo:
    """Training runs to compare.

    Attributes:
        config: File in ``configs``.
        output: Folder of the runs.
        runs: Name of a run -> its settings; the first run is the reference, the last one the control.
    """

    config: str
    output: Path
    runs: dict[str, list[str]]


DEMOS: dict[str, Demo] = {
    "detection": Demo(
        config="detection/shapes.yaml",
        output=Path("runs") / "demo",
        runs={
            "resnet34": ["--model.backbone=resnet34"],
            "ode_resnet34": ["--model.backbone=ode_resnet34"],
            # One identity block per stage, and thus as many parameters as the ODE model
            "resnet34_one_block": ["--model.backbone=resnet34", "--model.backbone_args={layers: [2, 2, 2, 2]}"],
        },
    ),
    "depth": Demo(
        config="depth/road.yaml",
        output=Path("runs") / "demo-depth",
        runs={
            "vgg16_quarter_bn": ["--model.backbone=vgg16_quarter_bn"],
            "ode_vgg16_quarter_bn": ["--model.backbone=ode_vgg16_quarter_bn"],
            # One evaluation per stage, and thus a residual network with as many parameters as the ODE model
            "one_evaluation": ["--model.backbone_args={solver: euler, steps: 1}"],
        },
    ),
}


def main(arguments: list[str]) -> None:
    """Train the models of a demo, unless they are trained already, and compare them."""
    task, rest = pick_task(arguments, {name: TASKS[name] for name in DEMOS})
    demo = DEMOS[task.name]
    for number, (name, settings) in enumerate(demo.runs.items(), start=1):
        print(f"{name} ({number} of {len(demo.runs)}): training", flush=True)
        begun = (demo.output / name / LAST).exists()
        run = [f"--run.name={name}", f"--run.output={demo.output}", f"--run.resume={begun}"]
        train.main([task.name, f"--config={CONFIGS / demo.config}", *run, *settings, *rest])
    print("evaluating and comparing", flush=True)
    compare.main([*(str(demo.output / name) for name in demo.runs), f"--out={demo.output / 'comparison'}"])


if __name__ == "__main__":
    run_tool(main)
