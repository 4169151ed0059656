"""Compare trained runs with the first of them: ``python tools/compare.py runs/A runs/B --out runs/comparison``."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from engine.runs.cli import load_with_own_settings, run_tool
from engine.runs.compare import compare_runs
from engine.runs.run import has_report, report_folder, report_run
from engine.task import Task
from engine.weights.checkpoint import BEST, LAST, load_checkpoint
from odebackbones.errors import InputError
from tools.tasks import TASKS


def main(arguments: list[str]) -> None:
    """Evaluate the runs that have no report yet, time all runs in turn, and write the comparison."""
    options = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    options.add_argument(
        "runs", nargs="+", type=Path, help="folders of runs, or their best.pt or last.pt; the first is the reference"
    )
    options.add_argument("--out", type=Path, required=True, help="folder of the comparison")
    options.add_argument("--repeats", type=int, default=20, help="rounds of the timing; 0: keep the reports'")
    weights = "the epoch that did best in training, or the last one, which no figure picked"
    options.add_argument("--checkpoint", choices=(BEST, LAST), default=BEST, help=weights)
    options.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N")
    given = options.parse_args(arguments)
    if given.repeats < 0:
        raise InputError(f"--repeats {given.repeats}: expected 0 or more rounds")
    if any((folder / name).exists() for folder in (given.out, given.out.parent) for name in (BEST, LAST)):
        raise InputError(f"--out {given.out}: the folder of a run, or in one; take another for the comparison")
    checkpoints = [path / given.checkpoint if path.suffix != ".pt" else path for path in given.runs]
    task = common_task(checkpoints)
    runs = [load_with_own_settings(task, checkpoint, given.device) for checkpoint in checkpoints]
    for run in runs:
        if not has_report(run.checkpoint):
            command = ["python", "tools/eval.py", run.task.name, "--checkpoint", str(run.checkpoint)]
            report_run(run, report_folder(run.checkpoint), facts={"command": shlex.join(command)})
    comparison, table = compare_runs(runs, given.out, repeats=given.repeats)
    print(table)
    for section in comparison.sections:
        print(f"{section.title}:", *section.lines, sep="\n  ")
    print(f"comparison: {given.out / 'report.html'}")


def common_task(checkpoints: Sequence[Path]) -> type[Task]:
    """Return the task of all checkpoints.

    Raises:
        InputError: The checkpoints belong to several tasks.
    """
    names = {load_checkpoint(checkpoint)["task"]: checkpoint for checkpoint in checkpoints}
    if len(names) > 1:
        stated = ", ".join(f"{checkpoint} is of {name}" for name, checkpoint in names.items())
        raise InputError(f"runs of several tasks can't be compared: {stated}; take runs of one task")
    return TASKS[next(iter(names))]


if __name__ == "__main__":
    run_tool(main)
