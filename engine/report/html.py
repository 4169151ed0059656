"""A report as one self-contained HTML file: styles inline, pictures as data URIs, nothing fetched from anywhere."""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import replace
from html import escape
from itertools import groupby

from engine.report.records import Cell, Compared, Picture, Report, Section, Table, format_cell, quantity_tables

STYLE = """
:root { color-scheme: light; --ink: #1c2430; --soft: #5b6675; --line: #e2e6ec; --wash: #f6f8fa; --accent: #0072b2; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 32px 24px 64px; }
header { border-bottom: 3px solid var(--accent); margin-bottom: 20px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 17px; margin: 0 0 8px; overflow-wrap: anywhere; }
.run { color: var(--soft); margin: 0 0 14px; overflow-wrap: anywhere; }
section { margin: 28px 0 0; break-inside: avoid-page; }
.note { background: #fff8e1; border-left: 4px solid #e69f00; padding: 8px 14px; margin: 8px 0; }
.cards { display: flex; flex-wrap: wrap; gap: 0 40px; }
.cards > section { flex: 0 1 auto; min-width: 240px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 14px 5px 0; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th + th, td + td { padding-left: 14px; }
th:first-child, td:first-child { text-align: left; }
thead th { color: var(--soft); font-weight: 600; font-size: 13px; border-bottom: 2px solid var(--line); }
tbody tr:hover { background: var(--wash); }
.words td, .words th { text-align: left; white-space: normal; overflow-wrap: anywhere; vertical-align: top; }
.words td:first-child { white-space: nowrap; }
.better { color: #00714f; font-weight: 700; }
.worse { color: #b04a00; }
ul { margin: 0; padding-left: 20px; }
.gallery { break-inside: auto; }
.row { display: flex; flex-wrap: wrap; gap: 18px; }
.row + .row { margin-top: 18px; }
figure { flex: 1 1 320px; max-width: 527px; margin: 0; break-inside: avoid; }
.wide figure { flex-basis: 100%; max-width: none; }
.side figure { flex-basis: 200px; }
img { width: 100%; height: auto; border: 1px solid var(--line); border-radius: 6px; display: block; }
figcaption { color: var(--soft); font-size: 13px; margin-top: 4px; overflow-wrap: anywhere; }
@media print { main { max-width: none; padding: 0; } body { font-size: 11px; } tr { break-inside: avoid; } }
"""


def render_html(report: Report, plots: Sequence[Picture] = ()) -> str:
    """Write the whole report as one HTML document.

    Args:
        report: What to write; all its text is escaped.
        plots: The drawn curves, which carry their titles themselves.
    """
    facts = Table("How this was measured", ("fact", "value"), tuple(report.facts.items()))
    body = [
        f'<header><h1>{escape(report.title)}</h1><p class="run">Run: <b>{escape(report.name)}</b></p></header>',
        *(f'<p class="note">{escape(note)}</p>' for note in report.notes),
        _gallery("At a glance", report.headline, wide=True),
        _cards(map(_section, report.sections)),
        _cards(map(_table, quantity_tables(report.quantities))),
        *map(_table, report.tables),
        _gallery("Curves", [replace(plot, caption="") for plot in plots]),
        _gallery("Pictures", report.pictures),
        _table(facts) if report.facts else "",
    ]
    return _document(report.title, "\n".join(filter(None, body)))


def _document(title: str, body: str) -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _section(section: Section) -> str:
    lines = "\n".join(f"<li>{escape(line)}</li>" for line in section.lines)
    return f"<section><h2>{escape(section.title)}</h2><ul>{lines}</ul></section>"


def _cards(sections: Iterable[str]) -> str:
    """Set sections side by side as far as they fit."""
    cards = "\n".join(sections)
    return f'<div class="cards">{cards}</div>' if cards else ""


def _table(table: Table) -> str:
    """Lay out a table; one without numbers reads as prose (left-aligned, wrapped), others right-aligned."""
    words = all(isinstance(cell, str) for row in table.rows for cell in row)
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    body = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in table.rows)
    return (
        f'<section><h2>{escape(table.title)}</h2><div class="scroll"><table class="{"words" if words else "numbers"}">'
        f"<thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div></section>"
    )


def _cell(cell: Cell) -> str:
    text = escape(format_cell(cell))
    if isinstance(cell, Compared) and cell.verdict:
        return f'<td class="{cell.verdict}">{text}</td>'
    return f"<td>{text}</td>"


def _gallery(title: str, pictures: Sequence[Picture], *, wide: bool = False) -> str:
    """Show as many pictures next to each other as fit, or one a line; those of one named row share a line."""
    if not pictures:
        return ""
    rows = [(row, "\n".join(map(_figure, members))) for row, members in groupby(pictures, lambda picture: picture.row)]
    grids = "\n".join(f'<div class="row{" side" if row else ""}">{figures}</div>' for row, figures in rows)
    return f'<section class="gallery{" wide" if wide else ""}"><h2>{escape(title)}</h2>\n{grids}</section>'


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode("ascii")
    caption = escape(picture.caption)
    words = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f'<figure><img alt="{caption or picture.name}" src="data:image/png;base64,{data}">{words}</figure>'
