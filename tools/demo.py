"""Demos: train an ODE-Net, the network that it replaces and the controls, and compare them."""

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from engine.distributed import available_cores
from engine.runs.cli import config_parser, parse, pick_task, run_tool
from engine.weights.checkpoint import LAST
from odebackbones.errors import InputError
from tools import compare
from tools.tasks import TASKS

CONFIGS = Path(__file__).parent.parent / "configs"
TRAIN = Path(__file__).parent / "train.py"


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


OWN = "--run.name, --run.output, --run.seeds, --run.resume"
"""Options that a demo sets itself."""

NARROW = [8, 16, 32, 64]
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
    if {"-h", "--help"} & set(rest):
        print(f"{__doc__}\nArguments: a demo ({', '.join(DEMOS)}), then any option of tools/train.py except {OWN}.")
        return
    if own := [each for each in rest if each.split("=")[0] in OWN.split(", ")]:
        raise InputError(f"{', '.join(own)}: the demo sets these itself ({OWN}); train by tools/train.py")
    demo = DEMOS[task.name]
    runs = {name: [f"--config={CONFIGS / demo.config}", *settings, *rest] for name, settings in demo.runs.items()}
    for settings in runs.values():
        parse(config_parser(task, ""), task, settings)  # a mistake shows once, before anything is trained
    train_side_by_side(task.name, runs, demo.output)
    print("evaluating and comparing", flush=True)
    compare.main([*(str(demo.output / name) for name in runs), f"--out={demo.output / 'comparison'}"])


def train_side_by_side(task: str, runs: dict[str, list[str]], output: Path) -> None:
    """Train as many models at a time as there are cores, each with one thread.

    Networks as small as these gain little from a second thread, and the figures of one thread do not depend on the
    number of cores.

    Raises:
        InputError: A training failed; its messages stand above.
    """
    at_a_time = min(available_cores(), len(runs))
    print(f"training {', '.join(runs)}: {at_a_time} at a time, with one thread each", flush=True)
    with ThreadPoolExecutor(at_a_time) as pool:
        trainings = {name: pool.submit(_train, task, name, settings, output) for name, settings in runs.items()}
        try:
            failed = [name for name, training in trainings.items() if training.result() != 0]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # with Ctrl-C, none is begun any more
    if failed:
        raise InputError(f"the training of {', '.join(failed)} failed, see above; the others are kept in {output}")


def _train(task: str, name: str, settings: Sequence[str], output: Path) -> int:
    """Train a model in a process of its own, go on if it was begun, and return the exit status."""
    run = [f"--run.name={name}", f"--run.output={output}", f"--run.resume={(output / name / LAST).exists()}"]
    command = [sys.executable, str(TRAIN), task, *settings, *run]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout or ():
            print(f"{name}: {line}", end="", flush=True)
    return process.returncode


if __name__ == "__main__":
    run_tool(main)
