"""Write docs/models.md from timm's registry and the options' docstrings: ``python tools/docs_models.py``."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import timm
import torch
from timm.models import get_pretrained_cfg, model_entrypoint

from odebackbones.block import ODEBlock
from odebackbones.models.stage_options import StageOptions
from odebackbones.ode import SolverConfig

PAGE = Path("docs/models.md")

INTERNAL = {"stages", "solver_args", "block_args", "field_args", "factory_args"}
"""Attributes that a user does not set."""

REPLACED = {
    "lm_resnet50": "resnet50",
    "poly_resnet50": "resnet50",
    "fractal_resnet50": "resnet50",
    "rev_resnet50": "resnet50",
    "augmented_ode_resnet50": "resnet50",
}
"""Model whose name does not say what it replaces -> the model that it replaces."""

HEAD = """# Models and options

Written by `python tools/docs_models.py`; a test keeps it up to date. Importing `odebackbones` registers these models in
timm. The input's channels, height and width [px] are the defaults: `in_chans` sets other channels, and all networks but
`mlp_mnist`, which has no `features_only` either, take other sizes. Parameters include the classifier with the default
number of classes.

"""


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """Build the whole page."""
    parts = [
        HEAD + table(("model", "in place of", "input", "parameters", "ratio", ""), model_rows()),
        "## Options of the stages\n\nOne value for all stages. `steps`, `nodes`, `bases`, `norm_bases`, `duration` and "
        "`continuous` also take a sequence\nwith one value for each.\n\n"
        + table(("argument", "default", ""), option_rows(StageOptions, "Attributes")),
        "## Options of the ODE blocks\n\n" + table(("argument", "default", ""), option_rows(ODEBlock, "Args")),
        "## Options of the solver\n\n" + table(("argument", "default", ""), option_rows(SolverConfig, "Args")),
    ]
    return "\n".join(parts)


def table(columns: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    """Format a table in Markdown."""
    lines = [columns, ("---",) * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def model_rows() -> Iterator[tuple[str, ...]]:
    """Yield one row for each of our models, with the model that it replaces."""
    for name in timm.list_models():
        entrypoint = model_entrypoint(name)
        if entrypoint.__module__.startswith("odebackbones"):
            replaced = REPLACED.get(name, name.removeprefix("ode_"))
            ours, theirs = parameters(name), parameters(replaced) if timm.is_model(replaced) else 0
            ratio = f"{ours / theirs:.2f}" if theirs and replaced != name else ""
            text = (inspect.getdoc(entrypoint) or "").splitlines()[0]
            size = "x".join(map(str, get_pretrained_cfg(name).input_size))  # pyright: ignore[reportOptionalMemberAccess]
            yield f"`{name}`", f"`{replaced}`" if ratio else "", size, f"{ours / 1e6:.2f} M", ratio, to_cell(text)


def parameters(name: str) -> int:
    """Count a model's parameters."""
    with torch.device("meta"):
        return sum(p.numel() for p in timm.create_model(name).parameters())


def option_rows(kind: type, section: str) -> Iterator[tuple[str, ...]]:
    """Yield the options that a class's docstring explains, with their defaults."""
    explained = inspect.getdoc(kind) or ""
    text = re.split(rf"^{section}:\n", explained, flags=re.MULTILINE)[1]
    text = re.split(r"^\w[\w ]*:\n", text, flags=re.MULTILINE)[0]
    defaults = inspect.signature(kind).parameters
    for name, meaning in re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", text, flags=re.MULTILINE):
        if name not in INTERNAL:
            default = defaults[name].default if name in defaults else inspect.Parameter.empty
            yield f"`{name}`", "" if default is inspect.Parameter.empty else f"`{default!r}`", to_cell(meaning)


def to_cell(text: str) -> str:
    """Convert docstring text to one line of a table."""
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", text.replace("``", "`"))
    text = re.sub(r":math:`(.*?)`", r"`\1`", text)
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    main()
