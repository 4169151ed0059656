"""README and docs: the Python in them runs, commands and links lead somewhere, the generated page is up to date."""

import os
import re
import shlex
from pathlib import Path

import pytest

from tools import docs_models

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
IDS = [str(page.relative_to(ROOT)) for page in PAGES]


def blocks(page, language):
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


WITH_PYTHON = [page for page in PAGES if blocks(page, "python")]


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_PYTHON, ids=[str(page.relative_to(ROOT)) for page in WITH_PYTHON])
def test_every_python_block_runs_after_those_before_it(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # what it writes
    namespace = {}
    for number, block in enumerate(blocks(page, "python"), start=1):
        exec(compile(block, f"{page.name}, Python block {number}", "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_and_pictures_exist(page):
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_commands_name_files_that_exist(page):
    words = [
        word
        for block in blocks(page, "sh")
        for line in block.replace("\\\n", " ").splitlines()
        for word in shlex.split(line, comments=True)
        if re.match(r"(tools|configs)/", word)
    ]
    assert [word for word in words if not (ROOT / word).exists()] == []


def test_tests_that_the_docs_name_exist():
    for page in PAGES:
        for name in re.findall(r"`(tests/[\w/.]+)`", page.read_text(encoding="utf-8")):
            assert (ROOT / name).exists(), (page, name)


@pytest.mark.slow
def test_the_page_of_models_is_what_its_tool_writes():
    written = (ROOT / docs_models.PAGE).read_text(encoding="utf-8")
    assert written == docs_models.page(), "run python tools/docs_models.py"


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 120


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    config = pytest.importorskip("mkdocs.config", reason="needs the extra docs")
    from mkdocs.commands.build import build

    os.environ.setdefault("NO_MKDOCS_2_WARNING", "1")
    build(config.load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path)))
    assert (tmp_path / "api/ode/index.html").read_text(encoding="utf-8").count("SolverConfig") > 5
