"""The engine on a GPU: it never waits for the device within a solve, and is captured as a graph. Else skipped."""

import pytest
import torch
from trained_fields import images, make

from odebackbones.ode import SolverConfig, odeint

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device: nothing was tested on a GPU"),
]

MODES = {
    "backprop": SolverConfig("rk4", 8, "backprop", check_finite=False),
    "checkpoint": SolverConfig("midpoint", 8, checkpoints="sqrt", check_finite=False),
    "reversible": SolverConfig("leapfrog", 8, "reversible", check_finite=False),
}


def gradients(field, x, solver):
    """The gradients of a training step: the input's, then the parameters'."""
    end = odeint(field, x, solver=solver).state
    return torch.autograd.grad(end.square().sum(), [x, *field.parameters()])


@pytest.mark.parametrize("solver", MODES.values(), ids=MODES)
def test_a_training_step_does_not_wait_for_the_device(solver):
    field, x = make("GroupNorm").cuda(), images().cuda().requires_grad_()
    gradients(field, x, solver)  # what is set up once and for all
    torch.cuda.set_sync_debug_mode("error")
    try:
        gradients(field, x, solver)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("solver", MODES.values(), ids=MODES)
def test_a_training_step_is_captured_as_a_graph(solver):
    field, x = make("GroupNorm").cuda(), images().cuda().requires_grad_()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        gradients(field, x, solver)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = gradients(field, x, solver)
    for seed in (1, 2):
        with torch.no_grad():
            x.copy_(images(seed))
        graph.replay()
        for found, expected in zip(captured, gradients(field, x, solver), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["BatchNorm2d", "dropout", "stochastic depth"])
@pytest.mark.parametrize("checkpoints", ["every", "sqrt"])
def test_checkpoint_equals_backprop(name, checkpoints):
    field, x = make(name).cuda(), images().cuda().requires_grad_()
    found = {}
    for gradient in ("backprop", "checkpoint"):
        torch.manual_seed(0)
        found[gradient] = gradients(field, x, SolverConfig("midpoint", 8, gradient, checkpoints=checkpoints))
    for ours, expected in zip(found["checkpoint"], found["backprop"], strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("amp", [torch.bfloat16, torch.float16])
def test_reversible_gradients_under_autocast_equal_those_of_its_own_states(amp):
    field, x = make("GroupNorm").cuda(), images().cuda().requires_grad_()
    found = []
    for gradient in ("backprop", "reversible"):
        with torch.autocast("cuda", amp):
            found.append(gradients(field, x, SolverConfig("leapfrog", 16, gradient, state_dtype="int32")))
    for ours, expected in zip(*found, strict=True):
        assert (ours - expected).norm() <= 1e-2 * expected.norm()
