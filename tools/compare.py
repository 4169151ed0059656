"""Compare trained runs with the first of them: ``python tools/compare.py runs/A runs/B --out runs/comparison``."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from engine.report.files import REPORT, read_report
from engine.report.records import TASK, Report
from engine.runs.cli import load_with_own_settings, run_tool
from engine.runs.compare import Entry, compare_runs, distinct_names
from engine.runs.reports import DIGEST, kept_report, weights_beside
from engine.runs.run import LoadedRun, report_run
from engine.task import Task
from engine.weights.checkpoint import BEST, LAST, load_checkpoint
from odebackbones.errors import InputError
from tools.tasks import TASKS


def main(arguments: list[str]) -> None:
    """Evaluate the runs that have no report yet, time all runs in turn, and write the comparison."""
    options = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    options.add_argument(
        "runs",
        nargs="+",
        type=Path,
        help="folders of runs, their best.pt or last.pt, or folders of reports; the first is the reference",
    )
    options.add_argument("--out", type=Path, required=True, help="folder of the comparison")
    options.add_argument("--repeats", type=int, default=20, help="rounds of the timing; 0: keep the reports'")
    weights = "the epoch that did best in training, or the last one, which no figure picked"
    options.add_argument("--checkpoint", choices=(BEST, LAST), default=BEST, help=weights)
    options.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N")
    given = options.parse_args(arguments)
    if given.repeats < 0:
        raise InputError(f"--repeats {given.repeats}: expected 0 or more rounds")
    require_free(given.out)
    paths = [named_file(path, given.checkpoint) for path in given.runs]
    names = distinct_names(paths)
    weights = [weights_beside(path) if path.name == REPORT else path for path in paths]
    task = common_task([path for path in weights if path])
    entries = []
    for path, name, checkpoint in zip(paths, names, weights, strict=True):
        run = load_with_own_settings(task, checkpoint, given.device) if task and checkpoint else None
        report = read_report(path.parent) if run is None or path.name == REPORT else report_of(run)
        require_figures(path, report)
        entries.append(Entry(name, report, run))
    require_one_task(entries)
    comparison, table = compare_runs(entries, given.out, repeats=given.repeats)
    print(table)
    for section in comparison.sections:
        print(f"{section.title}:", *section.lines, sep="\n  ")
    print(f"comparison: {given.out / 'report.html'}")


def require_free(out: Path) -> None:
    """Refuse a folder for the comparison that holds, or is within, a run, or that holds the report of one."""
    folder = out.resolve()
    if any((each / name).exists() for each in (folder, *folder.parents[:2]) for name in (BEST, LAST)):
        raise InputError(f"--out {out}: the folder of a run, or in one; take another for the comparison")
    kept = kept_report(folder)
    if kept is not None and kept.quantities:
        raise InputError(f"--out {out}: holds the report of {kept.name}; take another folder for the comparison")


def require_one_task(entries: Sequence[Entry]) -> None:
    """Refuse reports of several tasks; those of earlier versions do not state theirs."""
    found = {entry.report.facts[TASK]: entry.name for entry in entries if TASK in entry.report.facts}
    if len(found) > 1:
        stated = ", ".join(f"{name} is of {task}" for task, name in found.items())
        raise InputError(f"reports of several tasks can't be compared: {stated}; take those of one task")


def named_file(path: Path, default: str) -> Path:
    """Return the weights that a path means, or the ``report.json`` of a folder that has no weights."""
    if path.suffix == ".pt" or path.name == REPORT:
        return path
    has_weights = any((path / name).is_file() for name in (BEST, LAST))
    return path / REPORT if (path / REPORT).is_file() and not has_weights else path / default


def require_figures(path: Path, report: Report) -> None:
    """Refuse a report without figures of its own, as a comparison's."""
    if not report.quantities:
        raise InputError(f"{path.parent}: a comparison, which has no figures of its own; name the runs instead")


def report_of(run: LoadedRun) -> Report:
    """Return the report of a run, which is made if there is none of these weights.

    Raises:
        InputError: A report of an earlier version would be replaced, with figures that the new one would lack.
    """
    kept = kept_report(run.report_folder)
    if kept is not None and kept.facts.get(DIGEST) == run.digest:
        return kept
    if kept is not None:
        is_older = DIGEST not in kept.facts
        if is_older and kept.points:
            raise InputError(
                f"{run.report_folder}: a report of an earlier version, with figures under other solvers that an "
                f"evaluation would remove: move it away, or evaluate anew with tools/eval.py and these --eval.solvers"
            )
        reason = "of an earlier version" if is_older else "of other weights, or of another state of the training"
        print(f"{run.report_folder}: {reason}; evaluated anew")
    command = ["python", "tools/eval.py", run.task.name, "--checkpoint", str(run.checkpoint)]
    return report_run(run, run.report_folder, facts={"command": shlex.join(command)})


def common_task(checkpoints: Sequence[Path]) -> type[Task] | None:
    """Return the task of all checkpoints; None if there are none.

    Raises:
        InputError: The checkpoints belong to several tasks.
    """
    names = {load_checkpoint(checkpoint)["task"]: checkpoint for checkpoint in checkpoints}
    if len(names) > 1:
        stated = ", ".join(f"{checkpoint} is of {name}" for name, checkpoint in names.items())
        raise InputError(f"runs of several tasks can't be compared: {stated}; take runs of one task")
    return TASKS[next(iter(names))] if names else None


if __name__ == "__main__":
    run_tool(main)
