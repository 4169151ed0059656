"""Train a model: ``python tools/train.py detection --config configs/detection/shapes.yaml --optim.lr 1e-3``."""

from odebackbones.engine.cli import config_parser, parse, pick_task, run_tool
from odebackbones.engine.run import train_run
from tools.tasks import TASKS


def main(arguments: list[str]) -> None:
    """Train as the arguments say; start with torchrun for several processes."""
    task, rest = pick_task(arguments, TASKS)
    parser = config_parser(task, "Train; writes config.yaml, log.csv, last.pt and best.pt to RUN.OUTPUT/RUN.NAME.")
    config, _ = parse(parser, task, rest)
    folder = train_run(task, config)
    print(f"trained: {folder}")


if __name__ == "__main__":
    run_tool(main)
