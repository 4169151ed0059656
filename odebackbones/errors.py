"""What the user gets for bad input: one line that says what came, what was expected and what to do."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class InputError(ValueError):
    """Bad input from outside: a file, an option, a checkpoint. The tools print it in one line and exit with 2."""


class SolverError(InputError):
    """A solve that can't be finished: its state is not finite, or it takes more evaluations than allowed."""


SHOWN = 5
"""Names or faults that an error or a report lists."""


ALL_SHOWN = 20
"""Known names that an error lists all."""


def truncate(lines: Sequence[str], kind: str) -> list[str]:
    """The first lines, and a last one that says how many more there are of the ``kind``."""
    rest = len(lines) - SHOWN
    return [*lines[:SHOWN], *([f"... and {rest} more {kind}"] if rest > 0 else [])]


def join_names(names: Sequence[str]) -> str:
    """The first names with commas between, and how many more there are."""
    return ", ".join(truncate(names, "")).rstrip()


def name_prefix(name: str) -> str:
    """How an error begins that concerns the part called ``name``, which may have no name."""
    return f"{name}: " if name else ""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """Say that ``name`` is no ``kind``, with the known names that are near, or all of a few if none is.

    Args:
        kind: What the name should have named, e.g. ``"solver"``.
        name: What came.
        known: The valid names.
    """
    known = sorted(known)
    near = get_close_matches(name.lower(), known, n=5, cutoff=0.5)
    if near:
        hint = f"did you mean {', '.join(map(repr, near))}?"
    elif len(known) <= ALL_SHOWN:
        hint = f"known: {', '.join(known)}"
    else:
        hint = f"the nearest of {len(known)}: {', '.join(get_close_matches(name.lower(), known, n=SHOWN, cutoff=0.0))}"
    return InputError(f"unknown {kind} {name!r}; {hint}")
