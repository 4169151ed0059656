"""What a recomputation must restore around a field to repeat a step: autocast and the random generators."""

import random
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from odebackbones.ode.slots import items


class Source(NamedTuple):
    """A random generator, as the functions that read and set its state."""

    read: Callable[[], Any]
    set: Callable[[Any], None]


RandomState = dict[Source, Any]
"""The state of each generator."""


class ReplayContext:
    """The autocast state and the random generators of a forward pass.

    Args:
        device: Device of the state; its generator is included, as are the generators of the CPU, Python and NumPy.
        modules: Modules whose attributes may be further generators.
    """

    def __init__(self, device: torch.device, modules: Iterable[nn.Module] = ()) -> None:
        self.device = device
        self.kind = "cpu" if device.type == "meta" else device.type
        self.is_autocast, self.dtype = torch.is_autocast_enabled(self.kind), torch.get_autocast_dtype(self.kind)
        self.sources = [*HOST, *numpys(), *accelerators(device), *generators(modules)]
        self.latest: RandomState | None = None

    def autocast(self) -> torch.autocast:
        """Build autocast as it was, without its cache: a weight cast under no_grad must not be used in a graph."""
        return torch.autocast(self.kind, self.dtype, self.is_autocast, cache_enabled=False)

    def rng_state(self) -> RandomState:
        """Return the generators' states; the same object while nothing is drawn, so that keeping it costs nothing."""
        now = {source: source.read() for source in self.sources}
        if self.latest is None or not all(equal_states(value, self.latest[source]) for source, value in now.items()):
            self.latest = now
        return self.latest

    @contextmanager
    def forked_rng(self) -> Iterator[None]:
        """Restore the generators' states afterwards."""
        before = self.rng_state()
        try:
            yield
        finally:
            self.restore_rng(before)

    def restore_rng(self, state: RandomState) -> None:
        """Set the generators to ``state``."""
        for source, value in state.items():
            source.set(value)


HOST = (Source(torch.get_rng_state, torch.set_rng_state), Source(random.getstate, random.setstate))
"""The generators that every machine has."""


def numpys() -> list[Source]:
    """NumPy's global generator, if NumPy's random module is loaded."""
    numpy = sys.modules.get("numpy.random")
    return [] if numpy is None else [Source(partial(numpy.get_state, legacy=False), numpy.set_state)]


def accelerators(device: torch.device) -> list[Source]:
    """The generator of the state's device; none while a CUDA graph is captured, which can't repeat a draw."""
    if device.type in ("cpu", "meta") or (device.type == "cuda" and torch.cuda.is_current_stream_capturing()):
        return []
    module = torch.get_device_module(device)
    if device.type == "mps":  # there is only one device, and the functions take none
        return [Source(module.get_rng_state, module.set_rng_state)]
    return [Source(lambda: module.get_rng_state(device), lambda state: module.set_rng_state(state, device))]


def generators(modules: Iterable[nn.Module]) -> list[Source]:
    """Find the generators of torch, Python and NumPy among the attributes of modules, also in containers."""
    values = [value for module in modules for value in vars(module).values()]
    return [source for value in values for own in (value, *items(value)) for source in sources_of(own)]


def sources_of(value: Any) -> list[Source]:
    """Return a generator as a source; nothing for other values."""
    if isinstance(value, torch.Generator):
        return [Source(value.get_state, lambda state: value.set_state(state) and None)]
    if isinstance(value, random.Random):
        return [Source(value.getstate, value.setstate)]
    bits = getattr(value, "bit_generator", getattr(value, "_bit_generator", None))
    if type(value).__module__.startswith("numpy.random") and bits is not None:
        return [Source(lambda: bits.state, lambda state: setattr(bits, "state", state))]
    return []


def equal_states(a: Any, b: Any) -> bool:
    """Whether two generators' states are equal."""
    if isinstance(a, dict):
        return all(equal_states(value, b[key]) for key, value in a.items())
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    return a.tobytes() == b.tobytes() if hasattr(a, "tobytes") else a == b
