"""Predict: ``python tools/predict.py detection --checkpoint runs/NAME/best.pt --input FILE_OR_FOLDER --out DIR``."""

from pathlib import Path

from odebackbones.engine.cli import config_parser, parse_for_checkpoint, pick_task, run_tool
from odebackbones.engine.predict import RESULTS, predict_files
from odebackbones.engine.run import load_run
from tools.tasks import TASKS


def main(arguments: list[str]) -> None:
    """Predict on an image, a folder of images or a video; draw and write the results."""
    task, rest = pick_task(arguments, TASKS)
    parser = config_parser(task, "Predict; writes a picture of every frame, and results.json.")
    parser.add_argument("--input", type=str, required=True, help="image, folder of images, or video")
    parser.add_argument("--out", type=str, required=True, help="folder for the results")
    config, values = parse_for_checkpoint(parser, task, rest, defaults=task.predict_arguments)
    out = Path(values.out)
    count = predict_files(load_run(task, config, Path(values.checkpoint)), Path(values.input), out)
    print(f"frames: {count}, results: {out / RESULTS}")


if __name__ == "__main__":
    run_tool(main)
