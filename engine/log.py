"""Output of a run while it trains: a progress bar, a CSV table, and TensorBoard events."""

import csv
import io
import logging
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from engine.atomic_files import write_atomically
from engine.distributed import rank
from odebackbones.errors import InputError

History = list[dict[str, float]]
"""One row per epoch."""


SECONDS_BETWEEN_LINES = 60
"""Time between two lines of a progress bar without a terminal."""


def warn(message: str) -> None:
    """Warn of something that the user should know; only the first of several processes does."""
    if rank() == 0:
        logging.getLogger("odebackbones").warning(message)


def write_csv(history: History, path: Path) -> None:
    """Write the whole table; a column that a row lacks stays empty there."""
    columns = list(dict.fromkeys(name for row in history for name in row))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_atomically(path, buffer.getvalue().encode())


class TensorBoard:
    """Writer of TensorBoard events, which does nothing if they are off."""

    def __init__(self, folder: Path, *, enabled: bool) -> None:
        self.writer: Any = None
        if enabled and rank() == 0:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise InputError("run.tensorboard needs: pip install 'odebackbones[tensorboard]'") from error
            self.writer = SummaryWriter(str(folder / "tensorboard"))

    def write(self, row: Mapping[str, float], step: int) -> None:
        """Write the numbers of one epoch."""
        if self.writer is not None:
            for name, value in row.items():
                self.writer.add_scalar(name, value, step)
            self.writer.flush()


def progress_bar(
    title: str, items: Iterable[Any] | None = None, *, total: int | None = None, initial: int = 0
) -> "tqdm[Any]":
    """Return a bar with the time left, over ``items`` or by hand, in the first process only.

    Without a terminal, it is a line of text each minute.

    Args:
        title: Text before the bar.
        items: Items to iterate over.
        total: Number of items, if they have no length.
        initial: Number of items that are done already.
    """
    options: dict[str, Any] = {
        "total": total,
        "desc": title,
        "disable": rank() != 0,
        "leave": False,
        "initial": initial,
    }
    if sys.stderr.isatty():
        return tqdm(items, dynamic_ncols=True, **options)
    return ProgressLines(items, mininterval=SECONDS_BETWEEN_LINES, maxinterval=SECONDS_BETWEEN_LINES, **options)


class ProgressLines(tqdm):
    """A progress bar that writes whole lines, for logs."""

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Write the state of the work as a line, except at its very beginning and at its end."""
        if msg is None and self.n and self.n != self.total:
            self.fp.write(f"{self}\n")
