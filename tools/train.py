"""Train a model: ``python tools/train.py detection --config configs/detection/shapes.yaml --optim.lr 1e-3``."""

from engine.runs.cli import config_parser, parse, pick_task, run_tool
from engine.runs.run import train_run
from tools.tasks import TASKS

HELP = """Train; writes config.yaml, log.csv, last.pt and best.pt to RUN.OUTPUT/RUN.NAME.

What most runs need (all have a default, or a place in a config of configs/):
  --config FILE.yaml         settings; options after it override them
  --data.root                where the data is
  --model.*                  the network: any of timm's, ours (ode_resnet50, ...) among them
  --optim.epochs, --optim.lr, --optim.batch_size
  --run.name, --run.output   the run writes to OUTPUT/NAME
  --run.device               auto, cpu, cuda, cuda:1, ..."""


def main(arguments: list[str]) -> None:
    """Train as the arguments say; start with torchrun for several processes."""
    task, rest = pick_task(arguments, TASKS)
    parser = config_parser(task, HELP)
    config, _ = parse(parser, task, rest)
    folder = train_run(task, config)
    print(f"trained: {folder}")


if __name__ == "__main__":
    run_tool(main)
