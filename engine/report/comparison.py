"""Compare runs: every figure next to the first run's, with its ratio, and in plain words where a run loses and wins."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, product

from engine.report.front import front_pictures
from engine.report.markdown import markdown_table
from engine.report.records import (
    ARROWS,
    CONTROL,
    MISSING,
    UNFINISHED,
    Compared,
    Curve,
    Interval,
    Picture,
    Quantity,
    Report,
    Section,
    Table,
    format_number,
    ordered_groups,
    slug,
)
from engine.report.verdicts import (
    IMAGES,
    compare_quantity,
    difference_of,
    differs,
    is_judged,
    is_tested,
    unlike,
)
from odebackbones.errors import InputError


def compare_reports(reports: Sequence[Report], names: Sequence[str] | None = None) -> Report:
    """Compare runs with the first of them, as a report that ``write_report`` writes like any other.

    Args:
        reports: At least two reports; the first is the reference.
        names: Names of the runs, by default those in the reports; equal names get a number.
    """
    if len(reports) < 2:
        raise InputError(f"a comparison needs two reports or more, got {len(reports)}")
    runs = distinct(names or [report.name for report in reports])
    title = f"{', '.join(runs[1:])} against {runs[0]}"
    return Report(
        name=" vs ".join(runs),
        title=title,
        facts=_common_facts(reports),
        quantities=(),
        curves=tuple(_overlaid_curves(reports, runs)),
        tables=(*_group_tables(reports, runs), *_differing_facts(reports, runs)),
        pictures=tuple(_aligned_pictures(reports, runs)),
        headline=front_pictures(reports, runs),
        notes=(*_depth_notes(reports, runs), *_warnings(reports, runs), *_run_notes(reports, runs)),
        sections=tuple(chain.from_iterable(_findings(reports[0], runs[0], *other) for other in _others(reports, runs))),
    )


def comparison_table(reports: Sequence[Report], names: Sequence[str] | None = None) -> str:
    """Lay out all figures in a compact Markdown table, readable in a terminal; cells better than the first are bold."""
    runs = distinct(names or [report.name for report in reports])
    tables = _group_tables(reports, runs)
    rows = tuple(chain.from_iterable(table.rows for table in tables))
    return markdown_table(Table("Comparison", ("quantity", *runs), rows))


def distinct(names: Sequence[str]) -> list[str]:
    """Number the repeated names: a, b, a -> a, b, a (2)."""
    distinct: list[str] = []
    for name in names:
        number, candidate = 1, name
        while candidate in distinct:
            number += 1
            candidate = f"{name} ({number})"
        distinct.append(candidate)
    return distinct


def _others(reports: Sequence[Report], runs: Sequence[str]) -> Iterator[tuple[Report, str]]:
    return zip(reports[1:], runs[1:], strict=True)


def _by_key(report: Report) -> dict[tuple[str, str], Quantity]:
    """Index the figures by group and name with unit: figures in different units are never compared."""
    return {(quantity.group, quantity.label): quantity for quantity in report.quantities}


def _group_tables(reports: Sequence[Report], runs: Sequence[str]) -> list[Table]:
    """Lay out one table per group: one row per quantity, one column per run."""
    indexed = [_by_key(report) for report in reports]
    every = {key: quantity for index in reversed(indexed) for key, quantity in index.items()}
    keys = dict.fromkeys(chain.from_iterable(indexed))
    tables = []
    for group in ordered_groups(tuple(every[key] for key in keys)):
        members = [key for key in keys if key[0] == group]
        alike = [not unlike(group, (reports[0], other)) for other in reports[1:]]
        rows = tuple(
            (_row_name(every[key]), *_row([index.get(key) for index in indexed], reports, alike)) for key in members
        )
        tables.append(Table(group.capitalize(), ("quantity", *runs), rows))
    return tables


def _row_name(quantity: Quantity) -> str:
    return quantity.label + ARROWS[quantity.better]


def _row(
    quantities: Sequence[Quantity | None], reports: Sequence[Report], alike: Sequence[bool]
) -> tuple[Compared, ...]:
    """Compare one figure of all runs; runs that were not measured like the first show only the value."""
    reference, *others = quantities
    cells = [Compared(reference.value, interval=reference.interval) if reference else Compared(None)]
    for report, other, same in zip(reports[1:], others, alike, strict=True):
        difference = difference_of(reports[0], report, other) if same else None
        cells.append(compare_quantity(reference if same else None, other, difference))
    return tuple(cells)


def _findings(reference: Report, reference_name: str, other: Report, name: str) -> Iterator[Section]:
    """Say from the numbers where a run loses against the reference, where it wins, and what can't be told."""
    indexed = _by_key(other)
    found = defaultdict[str, list[str]](list)
    other_kinds = {q.group for q in reference.quantities if unlike(q.group, (reference, other))}
    for key, quantity in _by_key(reference).items():
        figure = indexed.get(key)
        if quantity.group in other_kinds or quantity.value is None or figure is None or figure.value is None:
            continue
        if not is_judged(quantity, figure):
            continue
        difference = difference_of(reference, other, quantity)
        verdict = compare_quantity(quantity, figure, difference).verdict
        if not is_tested(quantity, figure, difference):
            verdict = "untested"
        elif not verdict and difference is None and (quantity.group == "cost" or figure.value == quantity.value):
            continue  # equal, and without any uncertainty
        found[verdict].append(_sentence(quantity, quantity.value, figure.value, difference))
    of_what = (
        f", of the figures that can be compared ({', '.join(sorted(other_kinds))}: can't be)" if other_kinds else ""
    )
    nowhere = (f"Nowhere beyond noise{of_what}.",)
    yield Section(f"Where {name} loses against {reference_name}", tuple(found["worse"]) or nowhere)
    yield Section(f"Where {name} wins against {reference_name}", tuple(found["better"]) or nowhere)
    if found[""]:
        yield Section(f"Where no difference of {name} and {reference_name} could be shown", tuple(found[""]))
    if found["untested"]:
        title = f"Where no difference of {name} and {reference_name} was tested, for lack of intervals"
        yield Section(title, tuple(found["untested"]))


def _sentence(quantity: Quantity, reference: float, value: float, difference: Interval | None) -> str:
    """Write one difference: ``latency median: 52.10 ms instead of 40.00 ms, 30 % higher``."""
    unit = f" {quantity.unit}" if quantity.unit else ""
    way = "higher" if value > reference else "lower"
    text = f"{quantity.name}: {format_number(value)}{unit} instead of {format_number(reference)}{unit}"
    if difference is not None:
        low, high = (f"{end:+.3g}" for end in difference)
        return f"{text}, difference {value - reference:+.3g} ({low} to {high})"
    return f"{text}, {100 * abs(value - reference) / abs(reference):.3g} % {way}" if reference else f"{text}, {way}"


def _overlaid_curves(reports: Sequence[Report], runs: Sequence[str]) -> Iterator[Curve]:
    """Label every curve by its run, ordered by title, so that equal titles share a plot."""
    titles = dict.fromkeys(curve.title for report in reports for curve in report.curves)
    for title in titles:
        for report, run in zip(reports, runs, strict=True):
            for curve in report.curves:
                if curve.title == title:
                    yield replace(curve, label=f"{run}: {curve.label}" if curve.label else run)


def _aligned_pictures(reports: Sequence[Report], runs: Sequence[str]) -> Iterator[Picture]:
    """Set the pictures with the same name side by side, one per run."""
    names = dict.fromkeys(picture.name for report in reports for picture in report.pictures)
    for name in names:
        for number, (report, run) in enumerate(zip(reports, runs, strict=True), start=1):
            for picture in report.pictures:
                if picture.name == name:
                    caption = f"{run}: {picture.caption}"
                    yield Picture(f"{name}.{number}-{slug(run)}", caption, picture.png, row=name)


def _common_facts(reports: Sequence[Report]) -> dict[str, str]:
    return {key: value for key, value in reports[0].facts.items() if not differs(key, reports)}


def _differing_facts(reports: Sequence[Report], runs: Sequence[str]) -> Iterator[Table]:
    """List the facts that differ, one column per run."""
    keys = [key for key in dict.fromkeys(chain.from_iterable(r.facts for r in reports)) if differs(key, reports)]
    rows = tuple((key, *(report.facts.get(key, MISSING) for report in reports)) for key in keys)
    if rows:
        yield Table("Facts that differ", ("fact", *runs), rows)


def _warnings(reports: Sequence[Report], runs: Sequence[str]) -> Iterator[str]:
    """Warn where the runs were not measured alike, or not finished."""
    for group in ("accuracy", "speed"):
        if differing := unlike(group, reports):
            values = "; ".join(f"{fact}: {_values(fact, reports, runs)}" for fact in differing)
            what = f"{group.capitalize()} figures are not comparable"
            yield f"{what}, as the runs were not measured alike. {values}."
    for report, run in zip(reports, runs, strict=True):
        if report.resamples is None:
            yield (
                f"{run} has no intervals, so that no difference can be shown: evaluate it anew, and several seeds on "
                f"the same images."
            )
        if UNFINISHED in report.facts:
            yield f"{run} is not finished: {report.facts[UNFINISHED]}."


def _depth_notes(reports: Sequence[Report], runs: Sequence[str]) -> Iterator[str]:
    """Say of every network without flows whether it is better than the control, which has the layers around them alone.

    If not beyond the interval of the difference, the comparison can't tell whether a flow replaces its blocks well.
    """
    controls = [(report, run) for report, run in zip(reports, runs, strict=True) if CONTROL in report.facts]
    discrete = [
        (report, run)
        for report, run in zip(reports, runs, strict=True)
        if CONTROL not in report.facts and any(q.name == "NFE" and q.value == 0 for q in report.quantities)
    ]
    for (control, control_name), (network, name) in product(controls, discrete):
        quantity = next((q for q in network.quantities if network.front and q.label == network.front[0]), None)
        difference = difference_of(control, network, quantity)
        if quantity is None or difference is None or unlike("accuracy", (control, network)):
            continue
        low, high = difference
        told = f"{quantity.name}: difference {low:+.3g} to {high:+.3g}"
        if low > 0 or high < 0:
            is_better = (low > 0) == (quantity.better == "higher")
            what = (
                f"Depth matters here: {name} is beyond" if is_better else f"Depth does harm here: {name} is worse than"
            )
            yield f"{what} the control without any block, {control_name} ({told})."
        else:
            yield (
                f"This comparison can't tell what depth is worth, and so not how well flows replace it: {name} is not "
                f"beyond the control without any block, {control_name} ({told})."
            )


def _values(fact: str, reports: Sequence[Report], runs: Sequence[str]) -> str:
    def stated(report: Report) -> str:
        own = report.resamples.digest if fact == IMAGES and report.resamples else None
        return own or report.facts.get(fact, "not stated")

    return ", ".join(f"{stated(report)} ({run})" for report, run in zip(reports, runs, strict=True))


def _run_notes(reports: Sequence[Report], runs: Sequence[str]) -> Iterator[str]:
    """Pass on the runs' own notes; a note that all runs share is given once."""
    for note in dict.fromkeys(chain.from_iterable(report.notes for report in reports)):
        holders = [run for report, run in zip(reports, runs, strict=True) if note in report.notes]
        yield note if len(holders) == len(runs) else f"{', '.join(holders)}: {note}"
