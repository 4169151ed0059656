"""What the user gets for bad input: one line that says what came, what was expected and what to do."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """Bad input from outside: a file, an option, a checkpoint. The tools print it in one line and exit with 2."""


class SolverError(InputError):
    """A solve that can't be finished: its state is not finite, or it takes more evaluations than allowed."""


def addressed(name: str) -> str:
    """How an error begins that concerns the part called ``name``, which may have no name."""
    return f"{name}: " if name else ""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """Say that ``name`` is no ``kind``, with the nearest known names, or all of them if none is near.

    Args:
        kind: What the name should have named, e.g. ``"solver"``.
        name: What came.
        known: The valid names.
    """
    known = sorted(known)
    near = get_close_matches(name.lower(), known, n=5, cutoff=0.5)
    hint = f"did you mean {', '.join(map(repr, near))}?" if near else f"known: {', '.join(known)}"
    return InputError(f"unknown {kind} {name!r}; {hint}")
