"""What a recomputation must find again around a field to repeat a step: autocast and the random generators."""

import random
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from odebackbones.ode.slots import items


class Source(NamedTuple):
    """A random generator's state: how it is read and set."""

    read: Callable[[], Any]
    set: Callable[[Any], None]
    is_torchs: bool = True


RandomState = dict[Source, Any]
"""Where each generator stands."""


class Surroundings:
    """The autocast state of a forward pass, and where its random draws stand.

    Args:
        device: Of the state; its generator counts, as do those of the CPU, of Python and of NumPy.
        modules: Whose attributes may be generators of their own.
    """

    def __init__(self, device: torch.device, modules: Iterable[nn.Module] = ()) -> None:
        self.device = device
        self.kind = "cpu" if device.type == "meta" else device.type
        self.autocast = torch.is_autocast_enabled(self.kind)
        self.autocast_dtype = torch.get_autocast_dtype(self.kind)
        self.sources = [*HOST, *numpys(), *accelerators(device), *map(source_of, generators(modules))]
        self.latest: RandomState | None = None

    def casts(self) -> torch.autocast:
        """Autocast as it was, without its cache: a weight's cast made under no_grad must not serve a graph."""
        return torch.autocast(self.kind, self.autocast_dtype, self.autocast, cache_enabled=False)

    def random_state(self) -> RandomState:
        """Where the generators stand; the same object while nothing is drawn, so that it costs nothing to keep."""
        now = {source: source.read() for source in self.sources}
        if self.latest is None or not all(same(value, self.latest[source]) for source, value in now.items()):
            self.latest = now
        return self.latest

    def forget_idle(self, before: RandomState) -> None:
        """Leave those of Python and NumPy alone, which are slow to read, that an evaluation did not draw from."""
        self.sources = [
            source for source in self.sources if source.is_torchs or not same(source.read(), before[source])
        ]

    @contextmanager
    def forked_random(self) -> Iterator[None]:
        """Leave the generators as they were before."""
        before = self.random_state()
        try:
            yield
        finally:
            self.draw_from(before)

    def draw_from(self, state: RandomState) -> None:
        """Draw as at ``state`` from now on."""
        for source in self.sources:
            source.set(state[source])


HOST = (Source(torch.get_rng_state, torch.set_rng_state), Source(random.getstate, random.setstate, is_torchs=False))
"""The generators of every machine."""


def numpys() -> list[Source]:
    """NumPy's global generator, if anything here uses NumPy."""
    numpy = sys.modules.get("numpy.random")
    if numpy is None:
        return []

    def read() -> tuple[Any, ...]:
        kind, key, *rest = numpy.get_state()
        return kind, key.tobytes(), *rest

    def write(state: tuple[Any, ...]) -> None:
        kind, key, *rest = state
        numpy.set_state((kind, memoryview(key).cast("I"), *rest))

    return [Source(read, write, is_torchs=False)]


def accelerators(device: torch.device) -> list[Source]:
    """The generator of the state's device; none during the capture of a CUDA graph, which can't repeat a draw."""
    if device.type in ("cpu", "meta") or (device.type == "cuda" and torch.cuda.is_current_stream_capturing()):
        return []
    module = torch.get_device_module(device)
    if device.type == "mps":  # it has one device, and takes none
        return [Source(module.get_rng_state, module.set_rng_state)]
    return [Source(lambda: module.get_rng_state(device), lambda state: module.set_rng_state(state, device))]


def generators(modules: Iterable[nn.Module]) -> list[torch.Generator]:
    """Those that modules have as attributes, also in containers."""
    values = [value for module in modules for value in vars(module).values()]
    return [g for value in values for g in (value, *items(value)) if isinstance(g, torch.Generator)]


def source_of(generator: torch.Generator) -> Source:
    """The state of a generator of one's own."""
    return Source(generator.get_state, lambda state: generator.set_state(state) and None)


def same(a: Any, b: Any) -> bool:
    """Whether two generators' states are equal."""
    return torch.equal(a, b) if isinstance(a, Tensor) else a == b
