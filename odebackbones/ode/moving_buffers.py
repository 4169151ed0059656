"""Moving buffers, which change from one evaluation to the next, and copies of their earlier values."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from odebackbones.ode.slots import buffer_slots


class Recorded(NamedTuple):
    """A buffer at one time, or the value in its place."""

    buffer: Any
    version: int
    copy: Any


class MovingBuffers:
    """The buffers of modules, including plain tensor attributes, with a record of which ones an evaluation changes.

    Buffers of norms that track statistics in training are left out: these norms do not compute with them.

    Args:
        modules: Modules that have the buffers.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self.slots = [(slot, module) for module in modules for slot in buffer_slots(module)]
        self.latest = [record_buffer(slot.value()) for slot, _ in self.slots]
        self.untold = [False] * len(self.slots)  # which changed without torch reporting it
        self.moving: set[int] = set()
        self.snapshots = 0  # after the start

    def copies(self, *, look: bool = False) -> list[Any]:
        """Return copies of the buffers as they are now; a buffer unchanged since the last call gives the same copy.

        torch's batch_norm does not increase the version, so in training values are compared, too: of all buffers once
        after the first step, or if ``look``, and later of the buffers found to change without a new version.
        """
        now = [slot.value() for slot, _ in self.slots]
        told = [is_told(buffer, record) for buffer, record in zip(now, self.latest, strict=True)]
        watched = [
            i
            for i, (_, module) in enumerate(self.slots)
            if not told[i]
            and isinstance(now[i], Tensor)
            and module.training
            and (look or self.snapshots == 0 or self.untold[i])
        ]
        self.snapshots += 1
        untold = differing([(now[i], self.latest[i].copy) for i in watched])
        for i, differs in zip(watched, untold, strict=True):
            self.untold[i] = self.untold[i] or differs
            told[i] = differs
        for i, moved in enumerate(told):
            if moved:
                self.latest[i] = record_buffer(now[i])
                self.moving.add(i)
        return [record.copy for record in self.latest]

    def begin_late(self) -> bool:
        """Whether a buffer is found, after several snapshots, to change unreported only since a later evaluation."""
        unseen = self.moving.copy()
        self.copies(look=True)
        return self.snapshots > 1 and any(self.untold[i] for i in self.moving - unseen)

    def put(self, copies: Sequence[Any]) -> None:
        """Let the modules compute with the values of these copies, which stay unchanged."""
        for i, ((slot, _), buffer) in enumerate(zip(self.slots, copies, strict=True)):
            slot.owner[slot.key] = buffer.clone() if i in self.moving and isinstance(buffer, Tensor) else buffer


def record_buffer(buffer: Any) -> Recorded:
    """Record the buffer as it is now."""
    return Recorded(buffer, version(buffer), buffer.detach().clone() if isinstance(buffer, Tensor) else buffer)


def is_told(buffer: Any, record: Recorded) -> bool:
    """Whether torch reports that a buffer is not as recorded: it was replaced, or changed in place."""
    return buffer is not record.buffer or version(buffer) != record.version


def differing(pairs: Sequence[tuple[Tensor, Tensor]]) -> list[bool]:
    """Whether the tensors of each pair differ; waits for the device once, and not while a CUDA graph is captured."""
    if not pairs or (pairs[0][0].is_cuda and torch.cuda.is_current_stream_capturing()):
        return [False] * len(pairs)
    if any(a.shape != b.shape for a, b in pairs):
        return [a.shape != b.shape or not torch.equal(a, b) for a, b in pairs]
    return torch.stack([(a != b).any().to(pairs[0][0].device) for a, b in pairs]).tolist()


def version(value: Any) -> int:
    """Return how often a tensor was changed in place; 0 for inference tensors, which do not count it."""
    return value._version if isinstance(value, Tensor) and not value.is_inference() else 0
