"""Repairable faults in the data: a strict reading refuses them, a lenient one repairs and records them."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from engine.log import warn
from odebackbones.errors import InputError


class ProblemLog:
    """Log of the problems that a lenient reading repairs; a strict reading stops at the first one.

    Args:
        source: The data set's name, for the summary.
        strict: Raise instead of repairing.
    """

    def __init__(self, source: str, *, strict: bool) -> None:
        self.source = source
        self.strict = strict
        self.lines: list[str] = []
        self.kinds: Counter[str] = Counter()
        self.examples: dict[str, str] = {}

    def report(self, problem: str, repair: str, *, kind: str) -> None:
        """Record ``problem`` and how it is repaired, e.g. ``"dropped"``.

        Args:
            problem: The problem and where it is.
            repair: How it is repaired.
            kind: Kind of problem, in the plural, for the summary, e.g. ``"boxes without area"``.

        Raises:
            InputError: The reading is strict.
        """
        if self.strict:
            raise InputError(f"{problem}; fix the data, or pass --data.strict false (it is then {repair})")
        self.note(problem, repair, kind=kind)

    def note(self, fact: str, consequence: str, *, kind: str) -> None:
        """Record something that is not a fault but should be known; a strict reading continues."""
        self.lines.append(f"{fact}: {consequence}")
        self.kinds[f"{kind} ({consequence})"] += 1
        self.examples.setdefault(f"{kind} ({consequence})", fact)

    @contextmanager
    def leaving_out(self, kind: str) -> Iterator[None]:
        """Leave out the entry whose reading raises an InputError inside; a strict reading passes the error on."""
        try:
            yield
        except InputError as error:
            if self.strict:
                raise
            self.note(str(error), "left out", kind=kind)

    def summary(self) -> tuple[str, ...]:
        """Return all recorded lines; warn once of every kind, with a count and an example."""
        for kind, count in self.kinds.items():
            example = self.examples[kind].removeprefix(f"{self.source}: ")
            warn(f"{self.source}: {count} {kind}, such as {shorten(example)}")
        return tuple(self.lines)


def shorten(text: str, *, length: int = 160) -> str:
    """Return a short text as it is, and only the start and the end of a long one."""
    return text if len(text) <= length else f"{text[: length // 3]} ... {text[-length // 2 :]}"
