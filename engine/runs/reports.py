"""Where the reports of a run's weights lie, and whether they are of these weights."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.report.files import REPORT, read_report
from engine.report.records import OVERRIDDEN, slug
from engine.training.fit import LOG
from engine.weights.checkpoint import BEST, LAST

REPORTS = {BEST: "report", LAST: "report_last"}
"""Weight file of a run -> the folder of its report."""

DIGEST = "digest of the weights"
"""Name of the fact that tells which weights, and which log of their training, a report is of."""

SOLVER = "solver"
"""Name of the fact that the solver was changed after the training."""

LONGEST = 60
"""Length from which a value is cut in a folder's name."""


def report_folder(checkpoint: Path, changes: Mapping[str, Any] | None = None) -> Path:
    """Return the folder of the report of a run's weights, next to them.

    Args:
        checkpoint: The weights.
        changes: Settings that differ from the trained ones, which have a folder of their own.
    """
    told = [str(value) if name == "solver" else f"{name} {value}" for name, value in (changes or {}).items()]
    return checkpoint.parent / "_".join([REPORTS.get(checkpoint.name, REPORTS[BEST]), *map(shortened, told)])


def shortened(setting: str) -> str:
    """Return a setting as a part of a file name; the end of a long one is replaced by its digest."""
    name = slug(setting)
    return name if len(name) <= LONGEST else f"{name[:LONGEST]}-{hashlib.sha256(setting.encode()).hexdigest()[:8]}"


def has_report(checkpoint: Path, changes: Mapping[str, Any] | None = None) -> bool:
    """Whether the report exists, and is of these weights and of this state of their training.

    Raises:
        InputError: The report is damaged.
    """
    folder = report_folder(checkpoint, changes)
    if not (folder / REPORT).is_file():
        return False
    return read_report(folder).facts.get(DIGEST) == weights_digest(checkpoint)


def weights_digest(checkpoint: Path) -> str:
    """Return what tells the weights and the log of their training from all others, wherever they are copied."""
    found = hashlib.sha256()
    for path in (checkpoint, checkpoint.parent / LOG):
        if path.is_file():
            with path.open("rb") as file:
                found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()[:16]


def trained_weights(report: Path) -> Path | None:
    """Return the weights beside a report of theirs on any data, as they were trained; None for all other reports."""
    facts = read_report(report.parent).facts
    if SOLVER in facts or OVERRIDDEN in facts:
        return None
    found = [report.parent.parent / name for name in REPORTS]
    return next((path for path in found if path.is_file() and weights_digest(path) == facts.get(DIGEST)), None)
