"""Evaluate a trained model: ``python tools/eval.py detection --checkpoint runs/NAME/best.pt``."""

import shlex
from dataclasses import replace
from pathlib import Path

from engine.measure.dial import tried_settings
from engine.report.files import write_report
from engine.report.markdown import markdown_table
from engine.report.records import TASK, Report, format_number
from engine.report.transfer import TRANSFER
from engine.runs.cli import config_parser, parse, parse_for_checkpoint, pick_task, run_tool
from engine.runs.reports import DIGEST, kept_report
from engine.runs.run import LoadedRun, load_run, report_run
from engine.task import ScoresPredictions, Task
from engine.weights.checkpoint import BEST, LAST
from odebackbones.errors import InputError, join_names
from tools.tasks import TASKS

GENERATED = ("shapes", "scenes")
"""Forms of data that are generated."""

PREDICTIONS, CHECKPOINT = "--predictions", "--checkpoint"

MODEL_HELP = """Evaluate; writes report.json, report.md, report.html and pictures.

What an evaluation needs:
  --checkpoint RUN           folder of a run, or its best.pt or last.pt
or, for depth, --predictions FOLDER in its place, which evaluates depth maps in files.
Settings are the run's own; those below override them."""


def main(arguments: list[str]) -> None:
    """Evaluate a model, or predictions in files."""
    task, rest = pick_task(arguments, TASKS)
    command = shlex.join(["python", "tools/eval.py", *arguments])
    given = {argument.split("=")[0] for argument in rest}
    if {PREDICTIONS, CHECKPOINT} <= given:
        raise InputError(f"{PREDICTIONS} and {CHECKPOINT}: give one of them")
    by_files = PREDICTIONS in given
    report, out = evaluate_files(task, rest, command) if by_files else evaluate_model(task, rest, command)
    shown = [q for q in report.quantities if q.group == "accuracy" and q.value is not None]
    print(*(f"{q.label} {format_number(q.value)}" for q in shown), sep=", ")
    print(*(markdown_table(table) for table in report.tables if table.title.startswith(TRANSFER)), sep="\n")
    print(f"report: {out / 'report.html'}")


def evaluate_model(task: type[Task], arguments: list[str], command: str) -> tuple[Report, Path]:
    """Evaluate with the checkpoint's own settings, which the arguments can override."""
    parser = config_parser(task, MODEL_HELP)
    parser.add_argument(
        "--out",
        type=str,
        default="",
        help="folder of the report (default: RUN/report; of last.pt RUN/report_last; changed settings are in the name)",
    )
    config, values = parse_for_checkpoint(parser, task, arguments)
    run = load_run(task, config, Path(values.checkpoint))
    require_effect(run)
    out = Path(values.out) if values.out else run.report_folder
    require_nothing_lost(run, out)
    return report_run(run, out, facts={"command": command}), out


def require_effect(run: LoadedRun) -> None:
    """Refuse settings of files for a model of generated images, which they would not change."""
    form = run.task.config.data.format
    if form in GENERATED and (named := [name for name in run.overridden if name in ("data.root", "data.val")]):
        raise InputError(
            f"{', '.join(named)}: without effect on generated images; --data.{form}.seed draws others, --data.format "
            f"reads yours"
        )


def require_nothing_lost(run: LoadedRun, out: Path) -> None:
    """Refuse to write the report over weights, another run's report, or one with solvers that the new one lacks.

    Raises:
        InputError: Says what would be lost.
    """
    if any((out / name).exists() for name in (BEST, LAST)):
        raise InputError(f"--out {out}: the folder of a run; take another, such as {out / 'report'}")
    try:
        report = kept_report(out)
    except InputError:
        return  # a damaged one, which is made anew
    if report is not None and report.name != run.task.config.run.name:
        raise InputError(f"--out {out}: holds the report of {report.name}; take another folder")
    if report is None or report.facts.get(DIGEST, run.digest) != run.digest:
        return  # reports of earlier versions have no digest
    kept = tried_settings(run.task.config.eval)
    found = [(point.solver, point.steps, point.tolerance) for point in report.points]
    if lost := [each for each in found if each not in kept]:
        named = [f"{solver} {steps if tolerance is None else tolerance}" for solver, steps, tolerance in lost]
        raise InputError(
            f"{out} has the figures under {join_names(named)}, which this evaluation would remove: give "
            f"--out another folder, or these in --eval.solvers and --eval.steps or --eval.tolerances, too"
        )


def evaluate_files(task: type[Task], arguments: list[str], command: str) -> tuple[Report, Path]:
    """Evaluate a folder of predictions, from any model, on the configured validation set."""
    if not issubclass(task, ScoresPredictions):
        can = ", ".join(name for name, other in TASKS.items() if issubclass(other, ScoresPredictions))
        raise InputError(f"{PREDICTIONS}: not for {task.name}, but for: {can}")
    parser = config_parser(task, "Evaluate predictions in files; writes report.json, report.md and report.html.")
    parser.add_argument(PREDICTIONS, type=str, required=True, help="folder of predictions")
    parser.add_argument("--out", type=str, required=True, help="folder of the report")
    config, values = parse(parser, task, arguments)
    report = task(config, {}).score(Path(values.predictions))
    report = replace(report, facts={**report.facts, TASK: task.name, "command": command})
    return report, write_report(report, Path(values.out))


if __name__ == "__main__":
    run_tool(main)
