"""Costs that can be counted by hand; times from a fake clock, so that no test depends on the machine's speed."""

import ctypes
import itertools
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from engine.measure import allocator, profile
from engine.measure.profile import (
    MIB,
    Latency,
    batch_times,
    cost_quantities,
    count_macs,
    count_parameters,
    device_facts,
    measure_latency,
    median_interval,
    peak_memory_mib,
    rates,
    speed_quantities,
    time_call,
    timed_parts,
)
from engine.task import Probe
from odebackbones.block import ODEBlock
from odebackbones.ode.solvers import SolverConfig

CPU = torch.device("cpu")


class Field(nn.Module):
    """A 1x1 convolution as a vector field."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, t, x):
        return self.conv(x)


class Net(nn.Module):
    """A body of a convolution and a flow, 3 x 8 x 8 -> 4 x 8 x 8, and a linear head of 10 classes."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), ODEBlock(Field(4), SolverConfig("rk4", 3, "checkpoint"))
        )
        self.head = nn.Linear(4, 10)

    def forward(self, x):
        return self.head(self.body(x).mean(dim=(2, 3)))


CONV_MACS = 8 * 8 * 4 * 3 * 3 * 3
FIELD_MACS = 8 * 8 * 4 * 4
NFE = 4 * 3
HEAD_MACS = 4 * 10
PARAMETERS = {"body": 4 * 3 * 3 * 3 + 4 + 4 * 4, "head": 4 * 10 + 10}


def probe_of(net, *, infer=None, parts=None):
    images = torch.ones(2, 3, 8, 8)
    return Probe(
        infer=infer or (lambda: net(images[:1])),
        loss=lambda: net.train()(images).sum(),
        body_loss=lambda: net.train().body(images).sum(),
        parts=parts or {},
        image_size=(8, 8),
        batch_size=2,
    )


@pytest.fixture
def clock(monkeypatch):
    """Every mark is one second after the last."""
    seconds = itertools.count(0.0)
    monkeypatch.setattr(profile, "mark", lambda device: next(seconds))


def test_macs_are_those_of_the_formula_with_every_evaluation_of_the_field():
    net = Net()
    total, body = count_macs(net, lambda: net(torch.ones(1, 3, 8, 8)), body="body")
    assert body == pytest.approx((CONV_MACS + NFE * FIELD_MACS) / 1e9)
    assert total == pytest.approx((CONV_MACS + NFE * FIELD_MACS + HEAD_MACS) / 1e9)


def test_macs_grow_with_the_batch_and_count_a_nested_body():
    outer = nn.Sequential()
    outer.add_module("backbone", Net())
    total, body = count_macs(outer, lambda: outer(torch.ones(3, 3, 8, 8)), body="backbone.body")
    assert body == pytest.approx(3 * (CONV_MACS + NFE * FIELD_MACS) / 1e9)
    assert total - body == pytest.approx(3 * HEAD_MACS / 1e9)


def test_parameters_are_counted_trained_or_not():
    net = Net()
    net.head.requires_grad_(False)
    assert count_parameters(net) == sum(PARAMETERS.values())
    assert count_parameters(net.body) == PARAMETERS["body"]


@pytest.mark.parametrize(("depth", "buffers"), [(1, 2), (3, 4), (6, 7)])
def test_peak_memory_of_a_chain_of_exponentials_is_its_states_and_one_buffer_more(depth, buffers):
    """exp keeps its result, and besides these one buffer is alive: a negated copy, or in the backward a gradient."""
    x = torch.zeros(MIB // 4, requires_grad=True)  # 1 MiB of float32

    def loss():
        y = x
        for _ in range(depth):
            y = torch.exp(-y)
        return y.sum()

    assert peak_memory_mib(lambda: loss().backward(), CPU) == pytest.approx(buffers, abs=0.01)


def test_peak_memory_is_above_what_was_allocated_before():
    resting = torch.zeros(8 * MIB // 4)
    x = torch.zeros(MIB // 4, requires_grad=True)
    assert peak_memory_mib(lambda: (x.exp().sum() + resting[0]).backward(), CPU) == pytest.approx(2, abs=0.01)


def test_models_are_timed_in_turn_and_the_warm_up_does_not_count(clock):
    calls = []
    probes = {name: probe_of(Net(), infer=lambda n=name: calls.append(n)) for name in ("ode", "resnet", "vgg")}
    latencies = measure_latency(probes, CPU, warmup=2, repeats=3)
    assert calls == ["ode", "resnet", "vgg"] * 5
    assert list(latencies) == list(probes)
    assert all(latency.total_ms == [1000.0] * 3 for latency in latencies.values())


def test_throughput_is_that_of_batches_in_turn_and_the_first_round_does_not_count(monkeypatch):
    calls, times = [], iter([9000.0, 9000.0, 1000.0, 2000.0, 3000.0, 4000.0, 1500.0, 1000.0])

    def timed_ms(call, device):
        call()
        return next(times)

    monkeypatch.setattr(profile, "timed_ms", timed_ms)
    batched = {
        name: replace(probe_of(Net()), infer_batch=lambda n=name: calls.append(n), infer_batch_size=number)
        for name, number in (("ode", 100), ("resnet", 50))
    }
    found = batch_times({**batched, "single": probe_of(Net())}, CPU, repeats=3)
    assert calls == ["ode", "resnet"] * 4
    assert found == {"ode": [1000.0, 3000.0, 1500.0], "resnet": [2000.0, 4000.0, 1000.0]}


def test_only_models_that_infer_batches_have_a_throughput(clock):
    batched = replace(probe_of(Net()), infer_batch=lambda: None, infer_batch_size=8)
    found = speed_quantities({"single": probe_of(Net()), "batched": batched}, CPU, repeats=1)
    names = {name: [quantity.name for quantity in quantities] for name, quantities in found.items()}
    assert names["batched"] == [*names["single"], "throughput, batch 8"]
    assert found["batched"][-1].value == 8.0


def test_the_parts_times_are_summed_over_their_calls_and_lie_within_the_total(clock):
    first, second, unused = nn.ReLU(), nn.ReLU(), nn.ReLU()

    def infer():
        for module in (first, second, first):
            module(torch.ones(1))

    latency = Latency()
    time_call(probe_of(Net(), infer=infer, parts={"twice": [first], "once": [second], "never": [unused]}), CPU, latency)
    assert latency.total_ms == [7000.0]  # start, three calls of two marks, end
    assert dict(latency.parts_ms) == {"twice": [2000.0], "once": [1000.0], "never": [0.0]}
    time_call(probe_of(Net(), infer=infer, parts={"both": [first, second]}), CPU, latency)
    assert latency.parts_ms["both"] == [3000.0]


def test_hooks_are_gone_afterwards_even_after_an_error(clock):
    net = Net()
    parts = {"body": [net.body], "head": [net.head]}

    def fail():
        assert net.head._forward_hooks and net.body._forward_pre_hooks
        raise RuntimeError("out of memory")

    measure_latency({"net": probe_of(net, parts=parts)}, CPU, warmup=1, repeats=1)
    with pytest.raises(RuntimeError, match="out of memory"):
        time_call(probe_of(net, infer=fail, parts=parts), CPU, Latency())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_real_marks_run_forward_and_give_milliseconds():
    with timed_parts({"net": [net := nn.ReLU()]}, CPU) as spans:
        net(torch.ones(1))
    [(start, end)] = spans["net"]
    assert profile.elapsed_ms(start, end) >= 0
    assert profile.elapsed_ms(1.0, 1.5) == 500.0


def test_latency_is_reported_by_its_order_statistics_and_the_rest_beside_the_parts():
    latency = Latency([10.0, 30.0, 20.0, 40.0, 50.0], {"backbone": [6.0, 8.0, 7.0, 90.0, 1.0], "neck": [2.0] * 5})
    found = {quantity.name: quantity for quantity in latency.quantities()}
    assert {name: quantity.value for name, quantity in found.items()} == pytest.approx(
        {
            "latency median": 30.0,
            "latency p90": 46.0,
            "latency min": 10.0,
            "images/s": 1000 / 30,
            "latency of backbone": 7.0,
            "latency of neck": 2.0,
            "latency of post-processing and rest": 21.0,
        }
    )
    assert {quantity.group for quantity in found.values()} == {"speed"}
    assert [name for name, quantity in found.items() if quantity.better == "higher"] == ["images/s"]
    assert [name for name, quantity in found.items() if quantity.unit != "ms"] == ["images/s"]


def test_costs_hold_parameters_macs_memory_and_the_solvers_evaluations():
    net = Net()
    probe = probe_of(net)
    found = {quantity.name: quantity.value for quantity in cost_quantities(net, probe, CPU, body="body")}
    assert found.pop("inference memory") > 0
    memory = {name: found.pop(f"training memory{name}, batch 2") for name in ("", " of backbone")}
    assert found == pytest.approx(
        {
            "parameters": sum(PARAMETERS.values()),
            "parameters of backbone": PARAMETERS["body"],
            "MACs": (CONV_MACS + NFE * FIELD_MACS + HEAD_MACS) / 1e9,
            "MACs of backbone": (CONV_MACS + NFE * FIELD_MACS) / 1e9,
            "NFE": NFE,
            "rejected steps": 0,
            "NFE of body.1": NFE,
        }
    )
    state_mib = 2 * 4 * 8 * 8 * 4 / MIB
    assert memory[""] > 3 * state_mib and memory[" of backbone"] > 3 * state_mib  # one state a step is kept
    assert not net.training and all(p.grad is None for p in net.parameters())


def test_a_discrete_network_has_no_evaluations():
    net = Net()
    net.body[1] = nn.Identity()
    found = {quantity.name: quantity.value for quantity in cost_quantities(net, probe_of(net), CPU, body="body")}
    assert found["NFE"] == 0 and not any(name.startswith("NFE of") for name in found)


def test_facts_name_the_day_the_device_the_threads_the_allocator_and_torch(monkeypatch):
    monkeypatch.setattr(profile, "keep_freed_memory", lambda: "an allocator")
    facts = device_facts(CPU)
    assert datetime.now(UTC) - datetime.fromisoformat(facts.pop("date")).replace(tzinfo=UTC) < timedelta(days=2)
    assert facts == {
        "device": "cpu",
        "threads": str(torch.get_num_threads()),
        "allocator": "an allocator",
        "torch": torch.__version__,
    }


@pytest.mark.parametrize(
    ("libc", "accepted", "state"),
    [
        ("glibc", 1, "glibc, keeps freed memory"),
        ("glibc", 0, "glibc, as it comes"),
        ("", 1, "the platform's own"),
    ],
)
def test_the_allocators_state_is_told_as_it_is(monkeypatch, libc, accepted, state):
    asked = []
    fake = SimpleNamespace(mallopt=lambda option, value: asked.append(option) or accepted)
    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: (libc, "2.36"))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: fake)
    assert allocator.keep_freed_memory() == state
    assert asked == ([-4, -1, -2] if libc == "glibc" else [])  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD of malloc.h


def test_the_interval_of_a_median_holds_it_in_19_of_20_cases_whatever_the_distribution():
    random = np.random.default_rng(0)
    for n in (6, 20, 51):
        samples = random.exponential(size=(2000, n))
        intervals = np.array([median_interval(list(sample)) for sample in samples])
        share = ((intervals[:, 0] <= math.log(2)) & (math.log(2) <= intervals[:, 1])).mean()
        assert 0.94 <= share <= 0.995
    assert median_interval([3.0, 1.0, 2.0, 5.0, 4.0]) is None
    assert rates((10.0, 20.0), images=4) == (200.0, 400.0)
