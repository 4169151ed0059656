"""Errors of a training that diverges: where it happened, the losses so far, and what to change."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor

from odebackbones.errors import InputError, SolverError


@contextmanager
def explained(totals: Mapping[str, Tensor], batch: int, epoch: int) -> Iterator[None]:
    """Explain a solve that fails in training: where it happened, the losses so far, and what to change.

    Raises:
        InputError: A solve failed, or a batch norm saw a single value per channel (in place of the original error).
    """
    where = f"epoch {epoch + 1}, batch {batch + 1}"
    try:
        yield
    except SolverError as error:
        losses = ", ".join(f"{name} {float(total) / max(1, batch):.3g}" for name, total in totals.items())
        raise InputError(
            f"{where}: {error}. Losses of the epoch so far: {losses or 'none'}. In training this is divergence: "
            f"{REMEDIES}"
        ) from error
    except ValueError as error:
        if ONE_VALUE not in str(error):
            raise
        raise InputError(
            f"{where}: a batch norm sees one value a channel ({error}): take larger images or a larger "
            f"optim.batch_size, or norms without batch statistics (group, frozen)"
        ) from error


ONE_VALUE = "Expected more than 1 value per channel when training"
"""Text of torch's error."""


REMEDIES = (
    "lower optim.lr, raise optim.warmup_epochs, or set optim.clip_grad; last.pt keeps the latest state that was saved"
)


def finite_mean(totals: Mapping[str, Tensor], batches: int, epoch: int) -> float:
    """Return the mean total loss so far.

    Raises:
        InputError: The mean loss is not finite; the last checkpoint stays as it is.
    """
    mean = sum(float(total) for total in totals.values()) / batches
    if mean != mean or mean in (float("inf"), float("-inf")):
        names = ", ".join(f"{name} {float(total) / batches:.3g}" for name, total in totals.items())
        raise InputError(f"the loss is not finite in epoch {epoch + 1} ({names}); {REMEDIES}")
    return mean
