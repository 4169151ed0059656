"""Small detection runs through the tools: in this process, or, to be killed or limited, in one of their own."""

import contextlib
import importlib
import io
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from engine.runs.cli import run_tool

ROOT = Path(__file__).parents[2]

SMALL = [
    "--data.shapes.size=64",
    "--data.shapes.train_images=12",
    "--data.shapes.val_images=5",
    "--data.workers=0",
    "--model.backbone=ode_resnet18",
    "--model.backbone_args={channels: [8, 8, 16, 16]}",
    "--model.fpn_channels=16",
    "--model.box_head_size=16",
    "--model.min_size=[64]",
    "--model.max_size=64",
    "--model.anchor_sizes=[8, 16, 32, 64, 128]",
    "--model.proposals_train=30",
    "--model.proposals_test=30",
    "--model.rpn_batch_size=16",
    "--model.box_batch_size=8",
    "--optim.opt=sgd",
    "--optim.lr=0.01",
    "--optim.batch_size=2",
    "--optim.epochs=2",
]


SMALL_DEPTH = [
    "--data.scenes.size=[32,64]",
    "--data.scenes.train_images=10",
    "--data.scenes.val_images=4",
    "--data.workers=0",
    "--model.backbone=ode_resnet18",
    "--model.backbone_args={channels: [8, 8, 16, 16]}",
    "--model.decoder_width=4",
    "--optim.batch_size=2",
    "--optim.epochs=2",
]


@dataclass
class Done:
    """How a tool ended, as of subprocess.run."""

    returncode: int
    stdout: str
    stderr: str


def run(tool, *arguments, cwd):
    """Run a tool to its end, in this process."""
    out, err = io.StringIO(), io.StringIO()
    main = importlib.import_module(f"tools.{tool}").main
    returncode = 0
    with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            run_tool(main, [str(argument) for argument in arguments])
        except SystemExit as end:
            returncode = end.code
    return Done(returncode, out.getvalue(), err.getvalue())


def train_small(cwd, name, *arguments):
    """Train a small run; it must succeed."""
    done = run("train", "detection", *SMALL, f"--run.name={name}", *arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd / "runs" / name


def command(tool, *arguments, launcher=()):
    """The command line of a tool, for a process of its own."""
    return [sys.executable, *launcher, str(ROOT / "tools" / f"{tool}.py"), *map(str, arguments)]


def train_pair(task, *arguments, cwd, port):
    """Train in two processes; they must succeed."""
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}"]
    subprocess.run(
        command("train", task, *arguments, launcher=launcher),
        cwd=cwd,
        env=environment(),
        capture_output=True,
        timeout=300,
        check=True,
    )


def environment():
    """One thread, and the checkout's packages whatever the working directory."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
