"""The demo: train an ODE-ResNet, the ResNet that it replaces and the honest control, and compare them."""

from pathlib import Path

from odebackbones.engine.cli import run_tool
from tools import compare, train

CONFIG = Path(__file__).parent.parent / "configs" / "detection" / "shapes.yaml"
OUTPUT = Path("runs") / "demo"
RUNS = {
    "resnet34": ["--model.backbone=resnet34"],
    "ode_resnet34": ["--model.backbone=ode_resnet34"],
    "resnet34_one_block": ["--model.backbone=resnet34", "--model.backbone_args={layers: [2, 2, 2, 2]}"],
}
"""Run -> its settings. The control has one identity block a stage, and so the ODE's parameters."""


def main(arguments: list[str]) -> None:
    """Train the three models, unless they are there already, and compare them."""
    for number, (name, settings) in enumerate(RUNS.items(), start=1):
        print(f"{name} ({number} of {len(RUNS)}): training", flush=True)
        run = [f"--run.name={name}", f"--run.output={OUTPUT}", "--run.resume=true"]
        train.main(["detection", f"--config={CONFIG}", *run, *settings, *arguments])
    print("evaluating and comparing", flush=True)
    compare.main([*(str(OUTPUT / name) for name in RUNS), f"--out={OUTPUT / 'comparison'}"])


if __name__ == "__main__":
    run_tool(main)
