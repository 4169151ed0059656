"""Write a report to a folder (JSON, Markdown, HTML, pictures) and read it back."""

import hashlib
import json
import math
import os
import shutil
import tempfile
from dataclasses import asdict, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from engine.report.html import render_html
from engine.report.markdown import render_markdown
from engine.report.plots import curve_pictures
from engine.report.records import Cell, Compared, Curve, Picture, Point, Quantity, Report, Resamples, Section, Table
from odebackbones.errors import InputError

KIND = "odebackbones report"
REPORT = "report.json"
"""File of a report's data."""

RESAMPLES_FILE = "resamples.npz"
"""File of the figures in resamples, beside the report."""

HINT = "run `python tools/eval.py TASK --checkpoint …/best.pt --out …` first"


def write_report(report: Report, folder: Path) -> Path:
    """Write ``report.json``, ``report.md``, ``report.html`` and ``pictures/*.png`` into a folder; return the folder.

    Everything is staged first, then moved into place: after a failure, such as a full disk, the previous report is
    intact. Other files in the folder are left alone. Non-finite numbers become ``null`` in the JSON.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".report-") as aside:
            staged, backup = Path(aside, "new"), Path(aside, "old")
            files = _stage(report, staged)
            _install(files, staged, folder, backup)
    except OSError as error:
        raise InputError(f"cannot write the report into {str(folder)!r}: {error}; choose another folder") from error
    return folder


def read_report(folder: Path) -> Report:
    """Read what ``write_report`` wrote; ``null`` in a curve comes back as NaN."""
    path = folder / REPORT
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"there is no report in {str(folder)!r} (no report.json); {HINT}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {str(path)!r} as JSON: {error}; {HINT}") from error
    if not isinstance(data, dict) or data.pop("kind", None) != KIND:
        raise InputError(f"{str(path)!r} holds JSON of another kind, not a report; {HINT}")
    return _parse(data, folder)


def _stage(report: Report, folder: Path) -> list[Path]:
    """Write all files into an empty folder; return their relative paths, ``report.json`` last."""
    plots = curve_pictures(report.curves)
    (folder / "pictures").mkdir(parents=True)
    texts = {
        "report.html": render_html(report, plots),
        "report.md": render_markdown(report, plots),
        REPORT: json.dumps(_json_data(report), indent=1, ensure_ascii=False, allow_nan=False) + "\n",
    }
    pictures = {f"pictures/{picture.name}.png": picture.png for picture in (*report.headline, *plots, *report.pictures)}
    for name, png in pictures.items():
        (folder / name).write_bytes(png)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    if report.resamples is not None:
        write_resamples(report.resamples, folder / RESAMPLES_FILE)
    return [Path(name) for name in (*pictures, *([RESAMPLES_FILE] if report.resamples else []), *texts)]


def _install(files: list[Path], staged: Path, folder: Path, backup: Path) -> None:
    """Move the staged files into place; if one move fails, put back what was there."""
    replaced = [file for file in files if (folder / file).exists()]
    for file in (*files, *replaced):
        (folder / file).parent.mkdir(exist_ok=True)
        (backup / file).parent.mkdir(parents=True, exist_ok=True)
    for file in replaced:
        shutil.copy2(folder / file, backup / file)
    moved: list[Path] = []
    try:
        for file in files:
            os.replace(staged / file, folder / file)
            moved.append(file)
    except BaseException:
        for file in moved:
            _put_back(backup / file, folder / file)
        raise


def _put_back(old: Path, place: Path) -> None:
    if old.exists():
        os.replace(old, place)
    else:
        place.unlink()


def _json_data(report: Report) -> dict[str, Any]:
    data = {"kind": KIND, **asdict(replace(report, resamples=None))}
    data["resamples"] = report.resamples and fingerprint(report.resamples)
    for picture in (*data["pictures"], *data["headline"]):
        del picture["png"]
    return _plain(data)


def _plain(value: Any) -> Any:
    """Turn tuples into lists, numpy's scalars into Python's, and non-finite numbers into ``None``."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else None
    return value


def _parse(data: dict[str, Any], folder: Path) -> Report:
    parts = {
        "quantities": lambda item: Quantity(**{**item, "interval": item.get("interval") and tuple(item["interval"])}),
        "curves": _parse_curve,
        "tables": _parse_table,
        "pictures": lambda item: _read_picture(item, folder),
        "notes": str,
        "sections": lambda item: Section(item["title"], tuple(item["lines"])),
        "front": str,
        "points": _parse_point,
        "headline": lambda item: _read_picture(item, folder),
    }
    data = {"front": [], "points": [], "headline": [], **data}  # which reports of before 0.3 lack
    try:
        parsed: dict[str, Any] = {key: tuple(map(parse, data[key])) for key, parse in parts.items()}
        kept = read_resamples(folder / RESAMPLES_FILE, expected=data.pop("resamples", None))
        return Report(**data | parsed, resamples=kept)
    except InputError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        path = str(folder / REPORT)
        raise InputError(f"{path!r} is damaged or of another version ({error}); {HINT}") from error


def write_resamples(resamples: Resamples, path: Path) -> None:
    """Write the figures in resamples as an ``.npz`` file."""
    parts = {"value": resamples.values, "figure": resamples.figures, "seeds": resamples.seeds}
    arrays: dict[str, Any] = {
        f"{part} {label}": np.asarray(values) for part, found in parts.items() for label, values in found.items()
    }
    np.savez_compressed(path, digest=np.array(resamples.digest), images=np.array(resamples.images), **arrays)


def read_resamples(path: Path, *, expected: str | None) -> Resamples | None:
    """Read what :func:`write_resamples` wrote; None if the report has none, or the file is not there.

    Args:
        path: The file.
        expected: Its fingerprint, which the report has; None if the report has no resamples.

    Raises:
        InputError: The file is damaged, or of another report.
    """
    if expected is None or not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as data:
            parts: dict[str, dict[str, Any]] = {"value": {}, "figure": {}, "seeds": {}}
            for name in data.files:
                part, _, label = name.partition(" ")
                if part in parts:
                    parts[part][label] = data[name]
            values = {label: float(value) for label, value in parts["value"].items()}
            seeds = {label: tuple(found.tolist()) for label, found in parts["seeds"].items()}
            found = Resamples(str(data["digest"]), int(data["images"]), values, parts["figure"], seeds)
    except (KeyError, ValueError, OSError, EOFError, BadZipFile) as error:
        raise InputError(f"{str(path)!r} is damaged ({error}); {HINT}") from error
    if fingerprint(found) != expected:
        raise InputError(f"{str(path)!r} is of another evaluation than the report beside it; {HINT}")
    return found


def fingerprint(resamples: Resamples) -> str:
    """Return what tells these resamples from all others: their images, figures and values."""
    found = hashlib.sha256(f"{resamples.digest} {resamples.values}".encode())
    for label, figures in sorted(resamples.figures.items()):
        found.update(label.encode() + np.ascontiguousarray(figures).tobytes())
    return found.hexdigest()[:16]


def _parse_curve(item: dict[str, Any]) -> Curve:
    axes: dict[str, Any] = {
        key: tuple(math.nan if value is None else value for value in item[key]) for key in ("x", "y")
    }
    return Curve(**item | axes)


def _parse_point(item: dict[str, Any]) -> Point:
    steps = item["steps"]
    figures = {label: math.nan if value is None else value for label, value in item["figures"].items()}
    return Point(**{**item, "steps": tuple(steps) if isinstance(steps, list) else steps, "figures": figures})


def _parse_table(item: dict[str, Any]) -> Table:
    rows = tuple(tuple(map(_parse_cell, row)) for row in item["rows"])
    return Table(item["title"], tuple(item["columns"]), rows)


def _parse_cell(cell: Any) -> Cell:
    if not isinstance(cell, dict):
        return cell
    return Compared(**{**cell, "interval": cell.get("interval") and tuple(cell["interval"])})


def _read_picture(item: dict[str, Any], folder: Path) -> Picture:
    picture = Picture(**item, png=b"")
    path = folder / "pictures" / f"{picture.name}.png"
    try:
        return Picture(**item, png=path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read the report's picture {str(path)!r}: {error}; {HINT}") from error
