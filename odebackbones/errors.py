"""Errors for bad input: one line that says what was given, what was expected and what to do."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class InputError(ValueError):
    """Bad input from outside: a file, an option, a checkpoint. The tools print it in one line and exit with 2."""


class SolverError(InputError):
    """A solve that can't be finished: its state is not finite, or it takes more evaluations than allowed."""


SHOWN = 5
"""Number of names or faults that an error or a report lists."""


ALL_SHOWN = 20
"""Largest number of known names that an error lists in full."""


def truncate(lines: Sequence[str], kind: str) -> list[str]:
    """Return the first lines, and a last one that says how many more of the ``kind`` there are."""
    rest = len(lines) - SHOWN
    return [*lines[:SHOWN], *([f"... and {rest} more {kind}"] if rest > 0 else [])]


def join_names(names: Sequence[str]) -> str:
    """Join the first names with commas, and say how many more there are."""
    return ", ".join(truncate(names, "")).rstrip()


def name_prefix(name: str) -> str:
    """Return the beginning of an error about the part called ``name``; empty for a part without a name."""
    return f"{name}: " if name else ""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """Build the error for a ``name`` that is not a ``kind``, with similar names or, if there are none, known ones.

    Args:
        kind: What the name should have named, e.g. ``"solver"``.
        name: The name that was given.
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
