"""Demos: train an ODE-Net, the network that it replaces and the controls, and compare them."""

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
        runs: Name of a run -> its settings: the network that is replaced, which is the reference, the ODE-Net, the
            control of the same parameters, and the control without any step, which shows whether depth matters.
    """

    config: str
    output: Path
    runs: dict[str, list[str]]


NARROW = [16, 32, 64, 128]
"""Channels of the detectors' stages."""

DEMOS: dict[str, Demo] = {
    "detection": Demo(
        config="detection/shapes.yaml",
        output=Path("runs") / "demo",
        runs={
            "resnet34": ["--model.backbone=resnet34", f"--model.backbone_args={{channels: {NARROW}}}"],
            "ode_resnet34": [],
            "one_block": [
                "--model.backbone=resnet34",
                f"--model.backbone_args={{channels: {NARROW}, layers: [2, 2, 2, 2]}}",
            ],
            "no_step": ["--model.backbone_args.steps=0"],
        },
    ),
    "depth": Demo(
        config="depth/road.yaml",
        output=Path("runs") / "demo-depth",
        runs={
            "vgg16_quarter_bn": ["--model.backbone=vgg16_quarter_bn"],
            "ode_vgg16_quarter_bn": ["--model.backbone=ode_vgg16_quarter_bn"],
            # a residual network with as many parameters as the ODE model
            "one_evaluation": ["--model.backbone_args={solver: euler, steps: 1}"],
            "no_step": ["--model.backbone_args={steps: 0}"],
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
