"""What a recomputation must find again around a field to repeat a step: autocast and the random generators."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

RandomState = tuple[Tensor, Tensor | None]
"""The generators' states, on the CPU and on the state's GPU."""


class Surroundings:
    """The autocast state of a forward pass, and where its random draws stand."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.kind = "cpu" if device.type == "meta" else device.type
        self.autocast = torch.is_autocast_enabled(self.kind)
        self.autocast_dtype = torch.get_autocast_dtype(self.kind)
        self.latest: RandomState | None = None

    def casts(self) -> torch.autocast:
        """Autocast as it was, without its cache: a weight's cast made under no_grad must not serve a graph."""
        return torch.autocast(self.kind, self.autocast_dtype, self.autocast, cache_enabled=False)

    def gpus(self) -> list[torch.device]:
        """The GPU whose generator matters; none during the capture of a CUDA graph, which can't repeat a draw."""
        return [self.device] if self.device.type == "cuda" and not torch.cuda.is_current_stream_capturing() else []

    def random_state(self) -> RandomState:
        """Where the generators stand; the same object while nothing is drawn, so that it costs nothing to keep."""
        now = torch.get_rng_state(), torch.cuda.get_rng_state(self.device) if self.gpus() else None
        if self.latest is None or not all(map(same, now, self.latest)):
            self.latest = now
        return self.latest

    @contextmanager
    def forked_random(self) -> Iterator[None]:
        """Leave the generators as they were before."""
        with torch.random.fork_rng(self.gpus()):
            yield

    def draw_from(self, state: RandomState) -> None:
        """Draw as at ``state`` from now on."""
        torch.set_rng_state(state[0])
        if state[1] is not None:
            torch.cuda.set_rng_state(state[1], self.device)


def same(a: Tensor | None, b: Tensor | None) -> bool:
    """Whether two generators' states are equal, or both missing."""
    return a is b if a is None or b is None else torch.equal(a, b)
