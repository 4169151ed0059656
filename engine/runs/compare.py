"""Comparison of trained runs: their reports side by side, with speed measured again, in turn."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from engine.log import warn
from engine.measure.dial import changed_models, speed_figures
from engine.measure.model import speed_facts
from engine.measure.profile import LEAST_ROUNDS, speed_quantities, throughput_rounds
from engine.report.comparison import compare_reports, comparison_table, distinct
from engine.report.files import REPORT, write_report
from engine.report.records import OVERRIDDEN, Report
from engine.report.seeds import join_seeds, seed_table
from engine.report.verdicts import differs, unlike
from engine.runs.reports import DIGEST, SOLVER
from engine.runs.run import LoadedRun
from engine.training.settings import CONVERTED, differences, to_dict
from engine.weights.checkpoint import BEST, LAST
from odebackbones.errors import InputError


@dataclass(frozen=True)
class Entry:
    """What is compared: a report, and the run that it is of.

    Attributes:
        name: Name of the column.
        report: The report.
        run: The run; None for a report alone, whose speed can't be measured again.
    """

    name: str
    report: Report
    run: LoadedRun | None = None

    @property
    def can_be_timed(self) -> bool:
        """Whether the report is of the run's model as it was trained, on any data."""
        return self.run is not None and not {SOLVER, OVERRIDDEN} & set(self.report.facts)


def compare_runs(entries: Sequence[Entry], out: Path, *, repeats: int) -> tuple[Report, str]:
    """Set reports side by side in ``out``, with the speed of their runs measured again, in turn.

    Args:
        entries: What to compare; the first is the reference.
        out: Folder of the comparison.
        repeats: Rounds of the speed measurement; 0 keeps the reports' own figures.

    Returns:
        The comparison, and its figures as a table for a terminal.
    """
    groups = group_seeds(entries)
    if len(groups) == 1:
        names = ", ".join(entry.name for entry in entries)
        what = "seeds of one model, which become one column" if len(entries) > 1 else "a single run"
        raise InputError(f"{names}: {what}; name another run to compare it with")
    names = [column_name([entries[i] for i in group]) for group in groups]
    for name, group in zip(names, groups, strict=True):
        if len(group) > 1:
            tqdm.write(f"{name}: the mean of {', '.join(entries[i].name for i in group)}")
    reports = remeasure(entries, repeats=repeats)
    columns = [join_seeds([reports[i] for i in group]) for group in groups]
    comparison = compare_reports(columns, names)
    tables = [
        seed_table(name, [entries[i].name for i in group], [reports[i] for i in group])
        for name, group in zip(names, groups, strict=True)
        if len(group) > 1
    ]
    notes = [*copy_notes(entries), *seed_notes(names, [len(group) for group in groups])]
    comparison = replace(comparison, tables=(*comparison.tables, *tables), notes=(*comparison.notes, *notes))
    write_report(comparison, out)
    return comparison, comparison_table(columns, names)


def group_seeds(entries: Sequence[Entry]) -> list[list[int]]:
    """Group the numbers of runs whose trainings differ in nothing but their seeds, in the order of the first ones."""
    groups: list[list[int]] = []
    for i, entry in enumerate(entries):
        for group in groups:
            members = [entries[j] for j in group]
            if all(is_another_seed(member, entry) for member in members):
                group.append(i)
                break
        else:
            groups.append([i])
    return groups


def is_another_seed(entry: Entry, other: Entry) -> bool:
    """Whether two runs are trainings with the same settings but the seed, evaluated alike on the same images.

    Converted runs are none, as they were not trained with their seed.
    """
    run, candidate = entry.run, other.run
    if run is None or candidate is None or CONVERTED in run.facts or CONVERTED in candidate.facts:
        return False
    settings = to_dict(run.task.config), to_dict(candidate.task.config)
    found = differences(*settings, free=("run", *candidate.task.free_settings))
    is_seed_alone = len(found) == 1 and found[0].startswith("run.seed ")
    reports = entry.report, other.report
    is_alike = run.checkpoint.name == candidate.checkpoint.name and not unlike("accuracy", reports)
    return is_seed_alone and is_alike and not any(differs(fact, reports) for fact in (SOLVER, OVERRIDDEN))


def column_name(entries: Sequence[Entry]) -> str:
    """Return the name of a single run; or what several share before ``seedN``, else the first, and how many."""
    first, *others = entries
    if not others:
        return first.name
    shared = set()
    for entry in entries:
        folder, _, report = entry.name.partition(" ")
        seed = entry.run.task.config.run.seed if entry.run else ""
        folder = folder.removesuffix(f"{seed}").removesuffix("seed").rstrip("_-.")
        shared.add(f"{folder} {report}".rstrip() if folder else "")
    name = shared.pop() if len(shared) == 1 else ""
    return f"{name or first.name} ({len(entries)} seeds)"


def copy_notes(entries: Sequence[Entry]) -> list[str]:
    """Say which entries are of the same weights."""
    holders: dict[str, list[str]] = {}
    for entry in entries:
        if digest := entry.report.facts.get(DIGEST):
            holders.setdefault(digest, []).append(entry.name)
    return [f"{', '.join(names)}: the same weights." for names in holders.values() if len(names) > 1]


def seed_notes(names: Sequence[str], seeds: Sequence[int]) -> list[str]:
    """Say what the intervals hold where some models have several seeds and others one, or where two are too few."""
    if max(seeds) == 1:
        return ["Intervals hold the choice of the images, not the variation of trainings: every model has one seed."]
    said = {
        1: "one seed, which is taken to vary as those of a model with several that it is compared with",
        2: "two seeds, which make wide intervals (Student's factor is 12.7, of three it is 4.3)",
    }
    having = {k: [name for name, number in zip(names, seeds, strict=True) if number == k] for k in said}
    return [f"{', '.join(having[k])}: {what}." for k, what in said.items() if having[k]]


def remeasure(entries: Sequence[Entry], *, repeats: int) -> list[Report]:
    """Measure the speed again, the models taking turns on one device, and return the reports with these figures."""
    reports, runs = [entry.report for entry in entries], [entry.run for entry in entries if entry.run is not None]
    if not repeats:
        return [unjudged_speed(report, "Speeds are the reports' own, and not judged.") for report in reports]
    if alone := [entry.name for entry in entries if not entry.can_be_timed]:
        note = (
            f"Speeds are the reports' own, and not judged, as not all could be measured again in turn: "
            f"{', '.join(alone)} without a run of these weights beside it, or with changed settings; name the runs."
        )
        warn(note)
        return [unjudged_speed(report, note) for report in reports]
    tqdm.write(f"speed of {len(runs)} models, in turn for {repeats} rounds")
    if repeats < LEAST_ROUNDS:
        warn(f"--repeats {repeats}: a median has an interval from {LEAST_ROUNDS} rounds; no speed will be judged")
    models = [(run, [run.model, *changed_models(run.model, r.points)]) for run, r in zip(runs, reports, strict=True)]
    probes = {
        f"{i} {j}": run.task.probe(model, run.device)
        for i, (run, solved) in enumerate(models)
        for j, model in enumerate(solved)
    }
    speeds = speed_quantities(probes, runs[0].device, repeats=repeats)
    facts = [speed_facts(probes[f"{i} 0"], run.device, run.task.config.optim) for i, (run, _) in enumerate(models)]
    note = (
        f"Speed was measured again for this comparison: the models took turns for {repeats} rounds (throughput: "
        f"{throughput_rounds(repeats)}) in one process."
    )
    return [
        replace(
            report,
            facts={**report.facts, **facts[i]},
            quantities=(*(q for q in report.quantities if q.group != "speed"), *speeds[f"{i} 0"]),
            points=tuple(
                replace(point, figures=point.figures | speed_figures(speeds[f"{i} {j}"]))
                for j, point in enumerate(report.points, start=1)
            ),
            notes=(*report.notes, note),
        )
        for i, report in enumerate(reports)
    ]


def unjudged_speed(report: Report, note: str) -> Report:
    """Return a report whose speeds have no intervals, which hold the load of the machine only where all take turns."""
    quantities = [replace(q, interval=None) if q.group == "speed" else q for q in report.quantities]
    return replace(report, quantities=tuple(quantities), notes=(*report.notes, note))


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """Name weights, or reports, by their run's folder; reports beside a run, and two of one run, also by themselves.

    Raises:
        InputError: The same weights, or the same report, are there twice.
    """
    found = [path.resolve() for path in paths]
    if twice := [str(path) for path, times in Counter(found).items() if times > 1]:
        raise InputError(f"{', '.join(twice)}: named more than once; a comparison needs each once")
    folders = Counter(path.parent for path in found)
    names = []
    for path in found:
        run = path.parent.parent
        if path.name == REPORT and any((run / weights).is_file() for weights in (BEST, LAST)):
            names.append(f"{run.name} {path.parent.name}")
        else:
            names.append(path.parent.name + (f" {path.stem}" if folders[path.parent] > 1 else ""))
    return distinct(names)
