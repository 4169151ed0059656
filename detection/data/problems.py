"""What happens to a fault in the data that can be repaired: strict refuses it, lenient repairs and records it."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from engine.log import warn
from odebackbones.errors import InputError


class ProblemLog:
    """Collects what a lenient reading repairs; a strict one stops at the first problem.

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
            problem: Where it is, and what.
            repair: What is done.
            kind: What it is one of, in the plural, for the summary: ``"boxes without area"``.

        Raises:
            InputError: If the reading is strict.
        """
        if self.strict:
            raise InputError(f"{problem}; fix the data, or pass --data.strict false (it is then {repair})")
        self.note(problem, repair, kind=kind)

    def note(self, fact: str, consequence: str, *, kind: str) -> None:
        """Record something that is not a fault but must be known; strict reading continues."""
        self.lines.append(f"{fact}: {consequence}")
        self.kinds[f"{kind} ({consequence})"] += 1
        self.examples.setdefault(f"{kind} ({consequence})", fact)

    @contextmanager
    def leaving_out(self, kind: str) -> Iterator[None]:
        """Leave out what can't be read inside, which raises an InputError; a strict reading passes that on."""
        try:
            yield
        except InputError as error:
            if self.strict:
                raise
            self.note(str(error), "left out", kind=kind)

    def summary(self) -> tuple[str, ...]:
        """Return all recorded lines; warn of every kind once, with a count and an example."""
        for kind, count in self.kinds.items():
            example = self.examples[kind].removeprefix(f"{self.source}: ")
            warn(f"{self.source}: {count} {kind}, such as {shorten(example)}")
        return tuple(self.lines)


def shorten(text: str, *, length: int = 160) -> str:
    """The text, or its start and its end."""
    return text if len(text) <= length else f"{text[: length // 3]} ... {text[-length // 2 :]}"
