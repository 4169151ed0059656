"""Train a model: ``python tools/train.py detection --config configs/detection/shapes.yaml --optim.lr 1e-3``."""

from dataclasses import replace
from typing import Any

from engine.runs.cli import config_parser, parse, pick_task, run_tool
from engine.runs.run import require_nothing_lost, run_folder, train_run
from tools.tasks import TASKS

HELP = """Train; writes config.yaml, log.csv, last.pt and best.pt to RUN.OUTPUT/RUN.NAME.

What most runs need (all have a default, or a place in a config of configs/):
  --config FILE.yaml         settings; options after it override them
  --data.root                where the data is
  --model.*                  the network: any of timm's, ours (ode_resnet50, ...) among them
  --optim.epochs, --optim.lr, --optim.batch_size
  --run.name, --run.output   the run writes to OUTPUT/NAME
  --run.seeds [0,1,2]        one run for each seed, NAME_seed0, ..., which a comparison joins
  --run.device               auto, cpu, cuda, cuda:1, ..."""


def main(arguments: list[str]) -> None:
    """Train as the arguments say; start with torchrun for several processes."""
    task, rest = pick_task(arguments, TASKS)
    parser = config_parser(task, HELP)
    config, _ = parse(parser, task, rest)
    configs = with_seeds(config)
    for each in configs:  # before the first training, not after it
        require_nothing_lost(run_folder(each), resume=each.run.resume)
    for each in configs:
        print(f"trained: {train_run(task, each)}")


def with_seeds(config: Any) -> list[Any]:
    """Return the configuration of every training: one, or one for each of ``run.seeds``."""
    return [
        replace(config, run=replace(config.run, seed=seed, seeds=[], name=f"{config.run.name}_seed{seed}"))
        for seed in config.run.seeds
    ] or [config]


if __name__ == "__main__":
    run_tool(main)
