"""Predict: ``python tools/predict.py detection --checkpoint runs/NAME --input FILES_OR_FOLDERS --out DIR``."""

from pathlib import Path

from engine.images.media import told
from engine.runs.cli import config_parser, parse_for_checkpoint, pick_task, run_tool
from engine.runs.predict import RESULTS, predict_files
from engine.runs.run import load_run
from tools.tasks import TASKS

HELP = """Predict; writes a picture of every frame, and results.json.

What a prediction needs:
  --checkpoint RUN           folder of a run, or its best.pt or last.pt
  --input FILE_OR_FOLDER ... images, folders of images, videos
  --out DIR                  folder for the results
Settings are the run's own; those below override them."""


def main(arguments: list[str]) -> None:
    """Predict on images, folders of images and videos; draw and write the results."""
    task, rest = pick_task(arguments, TASKS)
    parser = config_parser(task, HELP)
    parser.add_argument("--input", type=str, nargs="+", required=True, help="images, folders of images, videos")
    parser.add_argument("--out", type=str, required=True, help="folder for the results")
    config, values = parse_for_checkpoint(parser, task, rest, defaults=task.predict_settings)
    out, run = Path(values.out), load_run(task, config, Path(values.checkpoint))
    found = predict_files(run, [Path(path) for path in values.input], out)
    counts = told(found.counts)
    unread = f", files passed over as they could not be read: {len(found.unread)}" if found.unread else ""
    print(f"frames: {len(found.entries)}{f' with {counts}' if counts else ''}{unread}, results: {out / RESULTS}")


if __name__ == "__main__":
    run_tool(main)
