"""Measure the ODE engine against its bounds (1.5 hours on an idle core), the models' cost, or a converted ResNet."""

import argparse
import shlex
from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path

import torch

from benchmarks import engine
from benchmarks.depth import encoders
from benchmarks.measurement import Part
from benchmarks.zoo import conversion, models, trunk
from engine.measure.profile import device_facts
from engine.report.files import write_report
from engine.report.markdown import markdown_table
from engine.report.records import Report, Section
from engine.runs.cli import run_tool
from engine.weights.load import load_network
from odebackbones.errors import InputError, unknown_name

Parts = Mapping[str, Callable[[int], Part]]
"""Name on the command line -> measurement, called with the number of timing rounds."""


def conversion_parts(given: argparse.Namespace) -> Parts:
    """Return the parts that measure the user's own trained ResNet."""
    if not given.data or not given.checkpoint:
        raise InputError("conversion: give --data FOLDER, with train and test in it, and --checkpoint FILE")
    return conversion.parts(load_network(given.model, checkpoint=given.checkpoint, num_classes=None), given.data)


def trunk_parts(given: argparse.Namespace) -> Parts:
    """Return the parts that study the longest stage of the user's own trained ResNet."""
    if not given.data or not given.checkpoint:
        raise InputError("trunk: give --data FOLDER, with train and val in it, --checkpoint FILE and --model NAME")
    return trunk.parts(given.model, given.checkpoint, given.data)


BENCHMARKS: dict[str, tuple[str, Callable[[argparse.Namespace], Parts]]] = {
    "engine": ("Benchmark of the ODE engine", lambda _: engine.PARTS),
    "zoo": ("What the models cost", lambda _: models.PARTS),
    "depth": ("The encoders of depth", lambda _: {"encoders": encoders.run}),
    "conversion": ("A trained ResNet as an ODE model", conversion_parts),
    "trunk": ("Is a trained ResNet's longest stage an ODE?", trunk_parts),
}
"""Name on the command line -> title, and the function that returns the parts."""


def main(arguments: list[str]) -> None:
    """Run the parts, print their tables and claims, and write the report."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    options.add_argument("what", choices=BENCHMARKS, help="what is measured")
    options.add_argument("--parts", help="which parts, with commas between; by default all")
    options.add_argument("--out", type=Path, help="folder of the report; by default runs/benchmark/WHAT")
    options.add_argument("--rounds", type=int, default=10, help="rounds of every timing")
    options.add_argument("--threads", type=int, default=1, help="of all parts; one is the steadiest")
    options.add_argument("--model", default="resnet56_cifar", help="conversion, trunk: the ResNet, by timm's name")
    options.add_argument("--checkpoint", type=Path, help="conversion, trunk: its weights")
    options.add_argument(
        "--data", type=Path, help="folder with train/CLASS, and test/CLASS for conversion, val/CLASS for trunk"
    )
    given = options.parse_args(arguments)
    for name in ("rounds", "threads"):
        if getattr(given, name) < 1:
            raise InputError(f"--{name} {getattr(given, name)}: expected at least 1")
    title, build = BENCHMARKS[given.what]
    known = build(given)
    names = given.parts.split(",") if given.parts else list(known)
    for name in names:
        if name not in known:
            raise unknown_name("part", name, known)
    torch.set_num_threads(given.threads)
    parts = {name: measure(known[name], rounds=given.rounds) for name in names}
    command = shlex.join(["python", "tools/benchmark.py", *arguments])
    facts = {"command": command, "rounds": str(given.rounds)}
    facts |= device_facts(torch.device("cpu"))
    out = given.out or Path("runs/benchmark") / given.what
    write_report(report(given.what, title, parts, facts), out)
    print(f"report: {out / 'report.html'}")


def measure(run: Callable[[int], Part], *, rounds: int) -> Part:
    """Run one part and print its results."""
    part = run(rounds)
    for table in part.tables:
        print(f"\n{table.title}\n\n{markdown_table(table)}")
    print("", *part.claims, sep="\n", flush=True)
    return part


def report(kind: str, title: str, parts: dict[str, Part], facts: dict[str, str]) -> Report:
    """Combine the parts into a report: first the bounds that are not kept, if there are any bounds."""
    claims = [claim for part in parts.values() for claim in part.claims]
    failed, kept = ([str(claim) for claim in claims if claim.holds == holds] for holds in (False, True))
    sections = [
        Section("Bounds that are not kept", tuple(failed) or ("None.",)),
        Section("Bounds that are kept", tuple(kept)),
    ]
    if not claims:
        sections = []
    tables, curves = (tuple(chain(*(getattr(part, name) for part in parts.values()))) for name in ("tables", "curves"))
    return Report(kind, title, facts, (), curves=curves, tables=tables, sections=tuple(sections))


if __name__ == "__main__":
    run_tool(main)
