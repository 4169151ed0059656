"""Measure the ODE engine against its bounds: python tools/benchmark.py engine; about an hour on 2 idle cores."""

import argparse
import shlex
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import torch

from odebackbones.engine.cli import run_tool
from odebackbones.engine.markdown import markdown_table
from odebackbones.engine.profile import device_facts
from odebackbones.engine.report import Report, Section, write_report
from odebackbones.errors import InputError, unknown_name
from tools.engine_benchmark import PARTS, Part


def main(arguments: list[str]) -> None:
    """Run the parts, print their tables and claims, and write the report."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    options.add_argument("what", choices=["engine"], help="what is measured")
    options.add_argument("--parts", default=",".join(PARTS), help="which parts, with commas between")
    options.add_argument("--out", type=Path, default=Path("runs/benchmark/engine"), help="folder of the report")
    options.add_argument("--rounds", type=int, default=10, help="rounds of every timing")
    options.add_argument("--threads", type=int, default=1, help="of all parts; one is the steadiest")
    given = options.parse_args(arguments)
    names = given.parts.split(",")
    for name in names:
        if name not in PARTS:
            raise unknown_name("part", name, PARTS)
    for name in ("rounds", "threads"):
        if getattr(given, name) < 1:
            raise InputError(f"--{name} {getattr(given, name)}: expected at least 1")
    torch.set_num_threads(given.threads)
    parts = {name: measure(name, rounds=given.rounds) for name in names}
    command = shlex.join(["python", "tools/benchmark.py", *arguments])
    facts = {"command": command, "date": datetime.now(UTC).strftime("%Y-%m-%d"), "rounds": str(given.rounds)}
    write_report(report(parts, facts | device_facts(torch.device("cpu"))), given.out)
    print(f"report: {given.out / 'report.html'}")


def measure(name: str, *, rounds: int) -> Part:
    """Run one part and print what it found."""
    part = PARTS[name](rounds)
    for table in part.tables:
        print(f"\n{table.title}\n\n{markdown_table(table)}")
    print("", *part.claims, sep="\n", flush=True)
    return part


def report(parts: dict[str, Part], facts: dict[str, str]) -> Report:
    """The parts as a report: first the bounds that are not kept."""
    claims = [claim for part in parts.values() for claim in part.claims]
    failed, kept = ([str(claim) for claim in claims if claim.holds == holds] for holds in (False, True))
    sections = [
        Section("Bounds that are not kept", tuple(failed) or ("None.",)),
        Section("Bounds that are kept", tuple(kept)),
    ]
    tables, curves = (tuple(chain(*(getattr(part, name) for part in parts.values()))) for name in ("tables", "curves"))
    title = "Benchmark of the ODE engine"
    return Report("engine", title, facts, (), curves=curves, tables=tables, sections=tuple(sections))


if __name__ == "__main__":
    run_tool(main)
