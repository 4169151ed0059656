"""Where the reports of a run's weights lie, and whether they are of these weights."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.report.files import REPORT, read_report
from engine.report.records import Report, slug
from engine.training.fit import LOG
from engine.weights.checkpoint import BEST, LAST

REPORTS = {BEST: "report", LAST: "report_last"}
"""Weight file of a run -> the folder of its report."""

DIGEST = "digest of the weights"
"""Name of the fact that tells which weights, and which log of their training, a report is of."""

SOLVER = "solver"
"""Name of the fact that the solver was changed after the training."""

LONGEST = 80
"""Length from which the changed settings are cut in a folder's name."""


def report_folder(checkpoint: Path, changes: Mapping[str, Any] | None = None) -> Path:
    """Return the folder of the report of a run's weights, next to them.

    Args:
        checkpoint: The weights.
        changes: Settings that differ from the trained ones, which have a folder of their own; where they are long, or
            have other characters than a file name, it ends with their digest.
    """
    told = [str(value) if name == "solver" else f"{name} {value}" for name, value in (changes or {}).items()]
    name = "".join(f"_{slug(each)}" for each in told)
    if len(name) > LONGEST or any(re.search(r"[^\w .,\[\]-]", each) for each in told):
        name = f"{name[:LONGEST]}-{hashlib.sha256(' '.join(told).encode()).hexdigest()[:8]}"
    return checkpoint.parent / (REPORTS.get(checkpoint.name, REPORTS[BEST]) + name)


def kept_report(folder: Path) -> Report | None:
    """Return the report in a folder; None if there is none.

    Raises:
        InputError: It is damaged.
    """
    return read_report(folder) if (folder / REPORT).is_file() else None


def weights_digest(checkpoint: Path) -> str:
    """Return what tells the weights and the log of their training from all others, wherever they are copied."""
    found = hashlib.sha256()
    for path in (checkpoint, checkpoint.parent / LOG):
        if path.is_file():
            with path.open("rb") as file:
                found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()[:16]


def weights_beside(report: Path) -> Path | None:
    """Return the weights that a report beside them is of; None if there are none.

    Args:
        report: The ``report.json``.
    """
    folder = report.resolve().parent
    digest = read_report(folder).facts.get(DIGEST)
    found = [folder.parent / name for name in REPORTS]
    return next((path for path in found if path.is_file() and weights_digest(path) == digest), None)
