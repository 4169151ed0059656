"""Cost of a model: parameters, multiply-accumulates, training memory, and latency in total and by part."""

import math
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from engine.measure.allocator import keep_freed_memory
from engine.report.records import Direction, Interval, Quantity
from engine.task import Probe
from odebackbones.block import solver_stats

MIB = 2**20

LEAST_ROUNDS = 6
"""Rounds from which a median has a 95 % interval: it lies outside all of n times with probability 2 / 2 ** n."""


@dataclass
class Latency:
    """Times of repeated calls [ms], in total and by part."""

    total_ms: list[float] = field(default_factory=list)
    parts_ms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def quantities(self) -> tuple[Quantity, ...]:
        """Return minimum, median and 90th percentile, images/s, and the median of every part; batch size 1."""
        low, median, p90 = np.percentile(self.total_ms, [0, 50, 90])
        interval = median_interval(self.total_ms)
        rest = max(0.0, float(median) - sum(float(np.median(times)) for times in self.parts_ms.values()))
        return (
            Quantity("latency median", float(median), "ms", "lower", "speed", interval),
            Quantity("latency p90", float(p90), "ms", group="speed"),
            Quantity("latency min", float(low), "ms", group="speed"),
            Quantity("images/s", 1000 / float(median), "", "higher", "speed", rates(interval, images=1)),
            *(
                Quantity(f"latency of {name}", float(np.median(ms)), "ms", "lower", "speed", median_interval(ms))
                for name, ms in self.parts_ms.items()
            ),
            Quantity("latency of post-processing and rest", rest, "ms", group="speed"),
        )


def median_interval(times: Sequence[float]) -> Interval | None:
    """Return the 95 % confidence interval of the median, which holds for any distribution of the times.

    Its ends are the k-th smallest and the k-th largest time, with :math:`P(\\mathrm{Bin}(n, 1/2) < k) \\le 0.025`. Five
    times or fewer have none.
    """
    if len(times) < LEAST_ROUNDS:
        return None
    ordered, n = sorted(times), len(times)
    below = [sum(math.comb(n, i) for i in range(k)) / 2**n for k in range(n // 2 + 1)]
    k = max(1, *(k for k, share in enumerate(below) if share <= 0.025))
    return ordered[k - 1], ordered[n - k]


def rates(interval_ms: Interval | None, *, images: int) -> Interval | None:
    """Convert an interval of the times [ms] of ``images`` images to images per second."""
    if interval_ms is None:
        return None
    low, high = interval_ms
    return 1000 * images / high, 1000 * images / low


def mark(device: torch.device) -> Any:
    """Mark a point in time: a recorded CUDA event, or the clock in seconds."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def elapsed_ms(start: Any, end: Any) -> float:
    """Return the time between two marks [ms]; CUDA events must have been synchronized."""
    return 1000 * (end - start) if isinstance(start, float) else start.elapsed_time(end)


@contextmanager
def timed_parts(
    parts: Mapping[str, Sequence[nn.Module]], device: torch.device
) -> Iterator[dict[str, list[tuple[Any, Any]]]]:
    """Collect the marks around every call of the parts' modules."""
    spans: dict[str, list[tuple[Any, Any]]] = defaultdict(list)
    starts: dict[nn.Module, Any] = {}
    handles = []
    for name, modules in parts.items():
        for module in modules:
            handles += [
                module.register_forward_pre_hook(lambda m, _: starts.update({m: mark(device)})),
                module.register_forward_hook(lambda m, *_, n=name: spans[n].append((starts[m], mark(device)))),
            ]
    try:
        yield spans
    finally:
        for handle in handles:
            handle.remove()


def timed_ms(call: Callable[[], Any], device: torch.device) -> float:
    """Measure how long a call takes [ms], until the device is done."""
    start = mark(device)
    call()
    end = mark(device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return elapsed_ms(start, end)


def time_call(probe: Probe, device: torch.device, latency: Latency) -> None:
    """Add the times of one inference to ``latency``."""
    with timed_parts(probe.parts, device) as spans:
        latency.total_ms.append(timed_ms(probe.infer, device))
    for name in probe.parts:
        latency.parts_ms[name].append(sum(elapsed_ms(a, b) for a, b in spans[name]))


def measure_latency(
    probes: Mapping[str, Probe], device: torch.device, *, warmup: int = 3, repeats: int = 20
) -> dict[str, Latency]:
    """Time the models in turn, round by round, so that a change in the machine's load affects all alike.

    Args:
        probes: Name -> probe to call.
        device: Device of the models.
        warmup: Rounds that don't count.
        repeats: Rounds that count.
    """
    latencies = {name: Latency() for name in probes}
    for i in range(warmup + repeats):
        for name, probe in probes.items():
            time_call(probe, device, latencies[name] if i >= warmup else Latency())
    return latencies


def batch_times(probes: Mapping[str, Probe], device: torch.device, *, repeats: int = 5) -> dict[str, list[float]]:
    """Measure the times of a batch [ms] in turn, for the models that infer batches.

    Args:
        probes: Name -> probe to call.
        device: Device of the models.
        repeats: Rounds that count; one more before them doesn't.
    """
    times: dict[str, list[float]] = defaultdict(list)
    for _ in range(1 + repeats):
        for name, probe in probes.items():
            if probe.infer_batch is not None:
                times[name].append(timed_ms(probe.infer_batch, device))
    return {name: found[1:] for name, found in times.items()}


def speed_quantities(
    probes: Mapping[str, Probe], device: torch.device, *, repeats: int = 20
) -> dict[str, tuple[Quantity, ...]]:
    """Measure latency, and the throughput of models that infer batches, the models taking turns.

    Args:
        probes: Name -> probe to call.
        device: Device of the models.
        repeats: Rounds of the latency; the throughput has fewer (:func:`throughput_rounds`).
    """
    latencies = measure_latency(probes, device, repeats=repeats)
    times = batch_times(probes, device, repeats=throughput_rounds(repeats))
    found = {name: list(latency.quantities()) for name, latency in latencies.items()}
    for name, times_ms in times.items():
        size = probes[name].infer_batch_size
        rate, interval = 1000 * size / float(np.median(times_ms)), rates(median_interval(times_ms), images=size)
        found[name].append(Quantity(f"throughput, batch {size}", rate, "images/s", "higher", "speed", interval))
    return {name: tuple(quantities) for name, quantities in found.items()}


def throughput_rounds(repeats: int) -> int:
    """Return the number of throughput rounds for this number of latency rounds: fewer, as a batch takes long."""
    return max(min(repeats, LEAST_ROUNDS), repeats // 4)


def peak_memory_mib(call: Callable[[], Any], device: torch.device) -> float:
    """Measure the peak of what a call allocates [MiB], above what was allocated before.

    On CUDA it comes from the caching allocator's statistics; on the CPU, from the signed events of the profiler's
    memory trace.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / MIB
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # Kineto complains about missing GPUs on stderr
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace:
        call()
    results: Any = trace.profiler.kineto_results  # pyright: ignore[reportOptionalMemberAccess]
    events = [event for event in results.events() if event.name() == "[memory]"]
    sizes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max([0, *np.cumsum(sizes).tolist()]) / MIB


def training_memory_mib(model: nn.Module, loss: Callable[[], torch.Tensor], device: torch.device) -> float:
    """Measure the peak of a forward and backward pass of ``loss`` [MiB], with the gradients, which are then dropped."""
    model.zero_grad(set_to_none=True)
    peak = peak_memory_mib(lambda: loss().backward(), device)
    model.zero_grad(set_to_none=True)
    return peak


def count_macs(model: nn.Module, call: Callable[[], Any], *, body: str = "") -> tuple[float, float]:
    """Count the multiply-accumulates of a call [GMAC], in total and in the submodule called ``body``, if there is one.

    Convolutions and matrix products are counted, by torch's FLOP counter (two FLOPs each).
    """
    with FlopCounterMode(display=False) as counter:
        call()
    counts = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    in_body = counts.get(f"{type(model).__name__}.{body}", 0)
    return counts["Global"] / 2e9, in_body / 2e9


def count_parameters(module: nn.Module) -> int:
    """Count the parameters, trained or not."""
    return sum(p.numel() for p in module.parameters())


def cost_quantities(model: nn.Module, probe: Probe, device: torch.device, *, body: str = "") -> tuple[Quantity, ...]:
    """Measure parameters, MACs, NFE and training memory, of the whole model and of its backbone.

    Args:
        model: The model; it is left in evaluation mode, without gradients.
        probe: Calls of the model.
        device: Device of the model.
        body: Name of the backbone in the model, if it is only a part of it.
    """
    macs, body_macs = count_macs(model, probe.infer, body=body)
    inference = peak_memory_mib(probe.infer, device)
    stats = solver_stats(model)
    of_flows: Direction = "lower" if stats else "neither"  # to evaluate no field is no merit of a network without any
    flows = (("NFE", sum(s.nfe for s in stats.values())), ("rejected steps", sum(s.rejected for s in stats.values())))
    found = [
        ("parameters", count_parameters(model), ""),
        ("MACs", macs, "GMAC"),
        ("inference memory", inference, "MiB"),
        (f"training memory, batch {probe.batch_size}", training_memory_mib(model, probe.loss, device), "MiB"),
    ]
    if body and probe.body_loss:
        body_training = training_memory_mib(model, probe.body_loss, device)
        found += [
            ("parameters of backbone", count_parameters(model.get_submodule(body)), ""),
            ("MACs of backbone", body_macs, "GMAC"),
            (f"training memory of backbone, batch {probe.batch_size}", body_training, "MiB"),
        ]
    model.eval()
    found += [(f"NFE of {name}", s.nfe, "") for name, s in stats.items()]
    costs = [Quantity(name, value, unit, "lower", "cost") for name, value, unit in found]
    return *costs[:2], *(Quantity(name, number, "", of_flows, "cost") for name, number in flows), *costs[2:]


def device_facts(device: torch.device) -> dict[str, str]:
    """Return the facts that a speed figure needs: date, device name, threads, allocator, and torch's version."""
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    threads, allocator = str(torch.get_num_threads()), keep_freed_memory()
    return {"date": date, "device": name, "threads": threads, "allocator": allocator, "torch": torch.__version__}


def measurement_notes(device: torch.device) -> tuple[str, ...]:
    """Return the notes that a reader of such figures must know."""
    speed = "Speed and memory were measured on the cpu, not on a GPU."
    memory = "Training memory is the peak above the resting model of one forward and backward pass."
    return (speed, memory) if device.type == "cpu" else (memory,)
