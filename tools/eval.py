"""Evaluate a trained model: ``python tools/eval.py detection --checkpoint runs/NAME/best.pt``."""

import shlex
from pathlib import Path

from odebackbones.engine.cli import config_parser, parse_for_checkpoint, pick_task, run_tool
from odebackbones.engine.run import REPORT, load_run, report_run
from tools.tasks import TASKS


def main(arguments: list[str]) -> None:
    """Evaluate with the checkpoint's own settings, and those that the arguments override."""
    task, rest = pick_task(arguments, TASKS)
    parser = config_parser(task, "Evaluate; writes report.json, report.md, report.html and pictures.")
    parser.add_argument("--out", type=str, default="", help="folder of the report (default: RUN/report)")
    config, values = parse_for_checkpoint(parser, task, rest)
    checkpoint = Path(values.checkpoint)
    out = Path(values.out) if values.out else checkpoint.parent / REPORT
    command = shlex.join(["python", "tools/eval.py", *arguments])
    report_run(load_run(task, config, checkpoint), out, facts={"command": command})
    print(f"report: {out / 'report.html'}")


if __name__ == "__main__":
    run_tool(main)
