"""Evaluate a trained model: ``python tools/eval.py detection --checkpoint runs/NAME/best.pt``."""

import argparse
import shlex
from pathlib import Path

from odebackbones.engine.cli import config_arguments, config_parser, pick_task, run_tool, take_config
from odebackbones.engine.run import REPORT, load_run, report_run
from tools.tasks import TASKS


def main(arguments: list[str]) -> None:
    """Evaluate with the checkpoint's own settings, and those that the arguments override."""
    task, rest = pick_task(arguments, TASKS)
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--checkpoint", type=Path)
    checkpoint = options.parse_known_args(rest)[0].checkpoint
    parser = config_parser(task, "Evaluate; writes report.json, report.md, report.html and pictures.")
    parser.add_argument("--checkpoint", type=str, required=True, help="best.pt or last.pt of a run")
    parser.add_argument("--out", type=str | None, default=None, help="folder of the report (default: RUN/report)")
    start = config_arguments(checkpoint, task) if checkpoint else []
    parsed = parser.parse_args([*start, *rest])
    out = Path(parsed.out) if parsed.out else checkpoint.parent / REPORT
    run = load_run(task, take_config(parser, task, parsed), checkpoint)
    report_run(run, out, facts={"command": shlex.join(["python", "tools/eval.py", *arguments])})
    print(f"report: {out / 'report.html'}")


if __name__ == "__main__":
    run_tool(main)
