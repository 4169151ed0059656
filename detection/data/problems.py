"""What happens to a fault in the data that can be repaired: strict refuses it, lenient repairs and records it."""

from __future__ import annotations

import logging

from odebackbones.errors import InputError

logger = logging.getLogger(__name__)


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

    def report(self, problem: str, repair: str) -> None:
        """Record ``problem`` and how it is repaired, e.g. ``"dropped"``.

        Raises:
            InputError: If the reading is strict.
        """
        if self.strict:
            raise InputError(f"{problem}; fix the data, or pass --data.strict false (it is then {repair})")
        self.lines.append(f"{problem}: {repair}")

    def summary(self, *, first: int = 3) -> tuple[str, ...]:
        """Return all recorded lines; warn once, with their count and the ``first`` few."""
        if self.lines:
            shown = "; ".join(self.lines[:first])
            more = f"; and {len(self.lines) - first} more" if len(self.lines) > first else ""
            logger.warning("%s: repaired %d problem(s) in the data: %s%s", self.source, len(self.lines), shown, more)
        return tuple(self.lines)
