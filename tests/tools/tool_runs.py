"""Small detection runs through the tools, in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

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


def command(tool, *arguments, launcher=()):
    """The command line of a tool."""
    return [sys.executable, *launcher, str(ROOT / "tools" / f"{tool}.py"), *map(str, arguments)]


def environment():
    """One thread, and the checkout's packages whatever the working directory."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def run(tool, *arguments, cwd, launcher=()):
    """Run a tool to its end."""
    return subprocess.run(
        command(tool, *arguments, launcher=launcher),
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def train_small(cwd, name, *arguments, launcher=()):
    """Train a small run; it must succeed."""
    done = run("train", "detection", *SMALL, f"--run.name={name}", *arguments, cwd=cwd, launcher=launcher)
    assert done.returncode == 0, done.stderr
    return cwd / "runs" / name
