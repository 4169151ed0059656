"""A report as Markdown, with tables that are also readable as plain text."""

import re
from collections.abc import Iterable, Iterator, Sequence

from engine.report.records import Cell, Compared, Picture, Report, Table, format_cell, quantity_tables


def markdown_table(table: Table) -> str:
    """Lay out a table in Markdown, columns aligned for the terminal; a cell that is better than the first is bold."""
    rows = [[_escape(column) for column in table.columns]]
    rows += [[_cell(cell) for cell in row] for row in table.rows]
    widths = [max(3, *(len(row[column]) for row in rows)) for column in range(len(table.columns))]
    rule = [("-" * width if index == 0 else "-" * (width - 1) + ":") for index, width in enumerate(widths)]
    return "\n".join(_line(row, widths) for row in [rows[0], rule, *rows[1:]])


def render_markdown(report: Report, plots: Sequence[Picture] = ()) -> str:
    """Write the whole report as Markdown.

    Args:
        report: What to write.
        plots: The drawn curves; they and the report's pictures are linked as ``pictures/NAME.png``.
    """
    blocks = [f"# {_escape(report.title)}", f"Run: **{_escape(report.name)}**"]
    blocks += [f"> {_escape(note)}" for note in report.notes]
    blocks += _images("At a glance", report.headline)
    for section in report.sections:
        blocks += [f"## {_escape(section.title)}", "\n".join(f"- {_escape(line)}" for line in section.lines)]
    blocks += _titled_tables([*quantity_tables(report.quantities), *report.tables])
    blocks += _images("Curves", plots)
    blocks += _images("Pictures", report.pictures)
    if report.facts:
        facts = Table("How this was measured", ("fact", "value"), tuple(report.facts.items()))
        blocks += _titled_tables([facts])
    return "\n\n".join(blocks) + "\n"


def _titled_tables(tables: Iterable[Table]) -> Iterator[str]:
    for table in tables:
        yield f"## {_escape(table.title)}"
        yield markdown_table(table)


def _images(title: str, pictures: Sequence[Picture]) -> Iterator[str]:
    if pictures:
        yield f"## {title}"
    for picture in pictures:
        caption = re.sub(r"(?<!\\)([\[\]])", r"\\\1", _escape(picture.caption))
        yield f"![{caption}](pictures/{picture.name}.png)"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        cell.ljust(width) if index == 0 else cell.rjust(width)
        for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return f"| {' | '.join(padded)} |"


def _cell(cell: Cell) -> str:
    text = _escape(format_cell(cell))
    return f"**{text}**" if isinstance(cell, Compared) and cell.verdict == "better" else text


def _escape(text: str) -> str:
    """Keep text from acting as Markdown or HTML: table bars, emphasis, links, tags and line breaks."""
    flat = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\|`*]|\](?=[(\[:])|(?<!\w)_|_(?!\w))", r"\\\1", flat)
