"""Reports: what is written can be read back, shows safely, and never half replaces what was there."""

import json
import math
import os
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from engine.report.files import read_report, write_report
from engine.report.markdown import markdown_table, render_markdown
from engine.report.plots import curve_pictures, plot_curves
from engine.report.records import (
    MISSING,
    Compared,
    Curve,
    Picture,
    Quantity,
    Report,
    Section,
    Table,
    format_cell,
    format_number,
    slug,
)
from odebackbones.errors import InputError

ATTACK = '<script>alert("x")</script>'
VOID_TAGS = {"meta", "img"}


def example(name="run-a"):
    curve = Curve("F1 over confidence", "confidence", "F1", (0.0, 0.5, 1.0), (0.2, 0.6, 0.1), "macro")
    return Report(
        name=name,
        title="Detection, ode_resnet50",
        facts={"device": "cpu", "threads": "2", "data set": "shapes | val"},
        quantities=(
            Quantity("AP50", 0.531, better="higher"),
            Quantity("parameters", 41_234_567, better="lower", group="cost"),
            Quantity("latency median", 52.125, "ms", "lower", "speed"),
            Quantity("AP_large", None),
        ),
        curves=(curve, replace(curve, label="micro", y=(0.3, 0.7, 0.2))),
        tables=(
            Table("Classes", ("class", "AP"), (("car", 0.5), ("bus", None), ("van", Compared(0.4, 0.8, "worse")))),
        ),
        pictures=(Picture("example-1", "a street", plot_curves([curve])),),
        notes=("latency on cpu: no CUDA device here",),
        sections=(Section("Findings", ("one", "two")),),
    )


class Page(HTMLParser):
    """Collects tags and references, and checks that every tag is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.references, self.words = [], [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.references += [value for key, value in attrs if key in {"src", "href", "srcset"}]
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data


def snapshot(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_written_is_read_back_equal(tmp_path):
    report = example()
    assert write_report(report, tmp_path / "new" / "folder") == tmp_path / "new" / "folder"
    assert read_report(tmp_path / "new" / "folder") == report
    names = {str(path) for path in snapshot(tmp_path / "new" / "folder")}
    plot = "pictures/curve-1-F1-over-confidence.png"
    assert names == {"report.json", "report.md", "report.html", "pictures/example-1.png", plot}


def test_html_is_whole_and_refers_to_nothing_outside(tmp_path):
    text = (write_report(example(), tmp_path) / "report.html").read_text()
    page = Page(text)
    assert len(page.references) == 2 and all(source.startswith("data:image/png;base64,") for source in page.references)
    assert not re.search(r"https?://|url\(|@import|<link|<script", text)
    for expected in ("run-a", "41,234,567", "52.12", "shapes | val", "latency on cpu", MISSING, "0.400 (0.80x)"):
        assert expected in page.words


def test_html_and_markdown_escape_whatever_comes_from_outside(tmp_path):
    report = Report(
        ATTACK,
        ATTACK,
        {ATTACK: ATTACK},
        (Quantity(ATTACK, 1.0, ATTACK, group=ATTACK),),
        (Curve(ATTACK, ATTACK, ATTACK, (0.0,), (1.0,), ATTACK),),
        (Table(ATTACK, (ATTACK,), ((ATTACK,),)),),
        (Picture("p", ATTACK, b"not even a PNG"),),
        (ATTACK,),
        (Section(ATTACK, (ATTACK,)),),
    )
    write_report(report, tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert "script" not in Page(text).tags and ATTACK in Page(text).words
    assert "<script" not in (tmp_path / "report.md").read_text()
    assert read_report(tmp_path) == report


def test_markdown_tables_keep_their_columns_whatever_the_cells_hold():
    cells = ("a|b", "c\nd", "*bold*", "snake_case")
    lines = markdown_table(Table("t", tuple("wxyz"), (cells,))).splitlines()
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in lines] == [5, 5, 5]
    assert len({len(line) for line in lines}) == 1
    assert r"a\|b" in lines[2] and "c d" in lines[2] and r"\*bold\*" in lines[2] and "snake_case" in lines[2]
    assert "**0.500 (2.00x)**" in markdown_table(Table("t", ("x",), ((Compared(0.5, 2.0, "better"),),)))


@pytest.mark.slow
def test_markdown_links_the_pictures_that_are_written(tmp_path):
    write_report(example(), tmp_path)
    links = re.findall(r"\]\((.+?)\)", (tmp_path / "report.md").read_text())
    assert len(links) == 2 and all((tmp_path / link).is_file() for link in links)
    assert render_markdown(replace(example(), pictures=(), facts={})).count("](") == 0
    hostile = render_markdown(replace(example(), notes=("[a](b)",), pictures=(Picture("p", "x](y [z]", b""),)))
    assert r"> [a\](b)" in hostile and r"![x\](y \[z\]](pictures/p.png)" in hostile


def test_numbers_that_are_not_finite_become_null(tmp_path):
    curve = Curve("c", "x", "y", (0.0, 1.0), (math.nan, 1.0))
    report = replace(example(), quantities=(Quantity("AP", math.nan), Quantity("loss", math.inf)), curves=(curve,))
    write_report(report, tmp_path)
    data = json.loads((tmp_path / "report.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert [quantity["value"] for quantity in data["quantities"]] == [None, None]
    read = read_report(tmp_path)
    assert read.quantities[0].value is None and math.isnan(read.curves[0].y[0]) and read.curves[0].y[1] == 1.0


def test_numpy_scalars_are_written_as_numbers(tmp_path):
    quantities = (Quantity("AP", float(np.float32(0.5))), Quantity("n", np.int64(3)), Quantity("m", np.float32(0.25)))
    write_report(replace(example(), quantities=quantities), tmp_path)
    assert [quantity.value for quantity in read_report(tmp_path).quantities] == [0.5, 3, 0.25]


@pytest.mark.slow
@pytest.mark.parametrize("failing_move", [1, 2, 3, 5])
def test_a_failing_write_leaves_the_earlier_report_whole(failing_move, tmp_path, monkeypatch):
    (tmp_path / "best.pt").write_bytes(b"weights")
    write_report(example("old"), tmp_path)
    before, moves, replace_file = snapshot(tmp_path), [], os.replace

    def fail_once(source, target):
        moves.append(target)
        if len(moves) == failing_move:
            raise OSError(28, "No space left on device")
        replace_file(source, target)

    monkeypatch.setattr(os, "replace", fail_once)
    extra = Picture("another", "", b"png")
    with pytest.raises(InputError, match="No space left"):
        write_report(replace(example("new"), pictures=(extra, *example().pictures)), tmp_path)
    assert snapshot(tmp_path) == before


@pytest.mark.slow
def test_a_disk_that_fills_while_writing_aside_leaves_the_earlier_report_whole(tmp_path, monkeypatch):
    write_report(example("old"), tmp_path)
    before = snapshot(tmp_path)

    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(InputError, match="No space left"):
        write_report(example("new"), tmp_path)
    assert snapshot(tmp_path) == before


@pytest.mark.slow
def test_a_second_report_replaces_the_first_and_leaves_other_files_alone(tmp_path):
    write_report(example("old"), tmp_path)
    (tmp_path / "pictures" / "mine.png").write_bytes(b"mine")
    write_report(example("new"), tmp_path)
    assert read_report(tmp_path).name == "new"
    assert (tmp_path / "pictures" / "mine.png").read_bytes() == b"mine"
    assert not list(tmp_path.glob(".report-*"))


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write the report"):
        write_report(example(), tmp_path / "file")
    with pytest.raises(InputError, match="no report"):
        read_report(tmp_path / "file")


def test_a_folder_without_a_report_says_how_to_make_one(tmp_path):
    with pytest.raises(InputError, match=r"python tools/eval\.py TASK --checkpoint"):
        read_report(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"a": 1}', '{"kind": "odebackbones report"}', '{"kind": "odebackbones report", "name": 1}']
)
def test_json_of_another_kind_is_refused(text, tmp_path):
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(InputError, match=r"tools/eval\.py"):
        read_report(tmp_path)


def test_a_missing_picture_is_named(tmp_path):
    write_report(example(), tmp_path)
    (tmp_path / "pictures" / "example-1.png").unlink()
    with pytest.raises(InputError, match=r"example-1\.png"):
        read_report(tmp_path)


@pytest.mark.parametrize("name", ["../evil", "a/b", "", ".hidden", "a b"])
def test_picture_names_stay_inside_the_folder(name):
    with pytest.raises(ValueError, match="no file name"):
        Picture(name, "", b"")
    assert Picture(slug(name), "", b"").name == slug(name)


def test_ambiguous_pictures_and_ragged_tables_are_refused():
    with pytest.raises(ValueError, match="name of its own"):
        replace(example(), pictures=(Picture("p", "", b""), Picture("p", "", b"")))
    with pytest.raises(ValueError, match="2 columns, but a row of 1"):
        Table("t", ("a", "b"), (("only one",),))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *[(None, MISSING), (math.nan, MISSING), (math.inf, MISSING), (1234567, "1,234,567"), (0, "0"), (7, "7")],
        *[(0.5, "0.500"), (0.03794, "0.0379"), (1.0, "1.000"), (2.8341, "2.834"), (52.126, "52.13"), (431.27, "431.3")],
        *[(1043.7, "1,044"), (999.97, "1,000"), (-0.25, "-0.250"), (0.9997, "0.9997"), (0.99, "0.990"), (0.0, "0.00")],
    ],
)
def test_numbers_are_written_with_three_or_four_digits(value, text):
    assert format_number(value) == text


def test_cells_show_the_ratio_to_the_first_run():
    assert format_cell(Compared(0.53, 0.4249, "better")) == "0.530 (0.42x)"
    assert format_cell(Compared(0.53, 0.004)) == "0.530 (0.004x)"
    assert format_cell(Compared(0.53)) == "0.530"
    assert format_cell(Compared(None)) == MISSING
    assert format_cell("text") == "text"


def test_curves_of_one_title_share_a_plot_and_odd_text_draws():
    one = Curve("P(R)", "$x", "y$", (0.0, 1.0), (1.0, 0.0), "_a $")
    pictures = curve_pictures([one, replace(one, title="other"), replace(one, label="b")])
    assert [(picture.name, picture.caption) for picture in pictures] == [
        ("curve-1-P-R", "P(R)"),
        ("curve-2-other", "other"),
    ]
    assert all(picture.png.startswith(b"\x89PNG") for picture in pictures)
    assert pictures[0].png == curve_pictures([one, replace(one, label="b")])[0].png
