"""Comparison of trained runs: their reports side by side, with speed measured again, in turn."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from engine.measure.dial import changed_models, speed_figures
from engine.measure.profile import device_facts, speed_quantities, throughput_rounds
from engine.report.comparison import compare_reports, comparison_table
from engine.report.files import read_report, write_report
from engine.report.records import Report
from engine.report.seeds import join_seeds, seed_table
from engine.runs.run import LoadedRun, report_folder
from engine.training.settings import CONVERTED, differences, to_dict
from odebackbones.errors import InputError


def compare_runs(runs: Sequence[LoadedRun], out: Path, *, repeats: int) -> tuple[Report, str]:
    """Set the reports of ``runs`` side by side in ``out``, with their speed measured again, in turn.

    Args:
        runs: Evaluated runs; the first is the reference.
        out: Folder of the comparison.
        repeats: Rounds of the speed measurement; 0 keeps the reports' own figures.

    Returns:
        The comparison, and its figures as a table for a terminal.
    """
    reports = [read_report(report_folder(run.checkpoint)) for run in runs]
    groups = group_seeds(runs, reports)
    if len(groups) == 1:
        names = ", ".join(run.checkpoint.parent.name for run in runs)
        what = "seeds of one model, which become one column" if len(runs) > 1 else "a single run"
        raise InputError(f"{names}: {what}; name another run to compare it with")
    if repeats:
        reports = remeasure(runs, reports, repeats=repeats)
    columns = [join_seeds([reports[i] for i in group]) for group in groups]
    names = [column_name([runs[i] for i in group]) for group in groups]
    comparison = compare_reports(columns, names)
    tables = [
        seed_table(name, [runs[i].checkpoint.parent.name for i in group], [reports[i] for i in group])
        for name, group in zip(names, groups, strict=True)
        if len(group) > 1
    ]
    comparison = replace(comparison, tables=(*comparison.tables, *tables))
    write_report(comparison, out)
    return comparison, comparison_table(columns, names)


def group_seeds(runs: Sequence[LoadedRun], reports: Sequence[Report]) -> list[list[int]]:
    """Group the numbers of runs whose trainings differ in nothing but their seeds, in the order of the first ones.

    They were evaluated on the same images: a mean over others means nothing.
    """
    groups: list[list[int]] = []
    for i, run in enumerate(runs):
        free = ("run", *run.task.free_settings)
        for group in groups:
            first = runs[group[0]]
            settings = to_dict(first.task.config), to_dict(run.task.config)
            seeds = {runs[j].task.config.run.seed for j in group}
            alike = not [line for line in differences(*settings, free=free) if not line.startswith("run.seed ")]
            is_converted = CONVERTED in first.facts or CONVERTED in run.facts
            alike &= first.checkpoint.name == run.checkpoint.name
            alike &= len({found.digest for j in (group[0], i) if (found := reports[j].resamples)}) < 2
            if alike and run.task.config.run.seed not in seeds and not is_converted:
                group.append(i)
                break
        else:
            groups.append([i])
    return groups


def column_name(runs: Sequence[LoadedRun]) -> str:
    """Return the name of a single run; or what several share before ``seedN``, else the first, and how many."""
    names = [run.checkpoint.parent.name for run in runs]
    if len(names) == 1:
        return names[0]
    shared = {
        name.removesuffix(f"{run.task.config.run.seed}").removesuffix("seed").rstrip("_-.")
        for name, run in zip(names, runs, strict=True)
    }
    name = shared.pop() if len(shared) == 1 else ""
    return f"{name or names[0]} ({len(names)} seeds)"


def remeasure(runs: Sequence[LoadedRun], reports: Sequence[Report], *, repeats: int) -> list[Report]:
    """Measure the speed again, the models taking turns on one device, and return the reports with these figures."""
    tqdm.write(f"speed of {len(runs)} models, in turn for {repeats} rounds")
    models = [(run, [run.model, *changed_models(run.model, r.points)]) for run, r in zip(runs, reports, strict=True)]
    probes = {
        f"{i} {j}": run.task.probe(model, run.device)
        for i, (run, solved) in enumerate(models)
        for j, model in enumerate(solved)
    }
    speeds = speed_quantities(probes, runs[0].device, repeats=repeats)
    facts = device_facts(runs[0].device)
    note = (
        f"Speed was measured again for this comparison: the models took turns for {repeats} rounds (throughput: "
        f"{throughput_rounds(repeats)}) in one process."
    )
    return [
        replace(
            report,
            facts={**report.facts, **facts},
            quantities=(*(q for q in report.quantities if q.group != "speed"), *speeds[f"{i} 0"]),
            points=tuple(
                replace(point, figures=point.figures | speed_figures(speeds[f"{i} {j}"]))
                for j, point in enumerate(report.points, start=1)
            ),
            notes=(*report.notes, note),
        )
        for i, report in enumerate(reports)
    ]
