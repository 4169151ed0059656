"""ODE blocks: the flow they are, the costs they tell, and the exporters that must follow them."""

import math
from itertools import product

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from odebackbones import InputError
from odebackbones.block import ODEBlock, set_gradient, solver_stats
from odebackbones.fields.norms import norm_layer
from odebackbones.fields.residual import BasicField
from odebackbones.ode import METHODS, SolverConfig, SolverStats, odeint
from odebackbones.ode.solvers import evaluation_times, min_nfe

CHANNELS = 4


class DecayField(nn.Module):
    """x' = -r x."""

    def __init__(self, rate):
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(rate, dtype=torch.float64))

    def forward(self, t: float, x: torch.Tensor) -> torch.Tensor:
        return -self.rate * x


def images(batch=2, size=(6, 7), seed=1):
    return torch.randn(batch, CHANNELS, *size, generator=torch.Generator().manual_seed(seed))


FIXED = [name for name, method in METHODS.items() if method.build]
"""The methods whose evaluations are known beforehand (``implicit_euler`` by its series)."""


def make_block(method="midpoint", steps=2, gradient="checkpoint"):
    """A block with two bases, in evaluation mode, whose running statistics are those of some batches."""
    torch.manual_seed(0)
    solver = SolverConfig(method, steps, gradient, degree=2 if method == "implicit_euler" else None)
    bases = 1 if method == "implicit_euler" else 2  # it evaluates at the ends of its steps: not in [0, 1/2)
    norm = norm_layer("batch", nodes=evaluation_times(solver), bases=bases)
    block = ODEBlock(BasicField(CHANNELS, width=6, norm=norm, bases=bases), solver)
    for seed in range(3):
        block(images(8, seed=seed))
    return block.eval()


@pytest.mark.parametrize("gradient", ["checkpoint", "backprop"])
def test_a_block_is_the_flow_of_its_field(gradient):
    block = ODEBlock(DecayField(1.5), SolverConfig("rk4", 16, gradient), t_span=(0.0, 2.0))
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(block(x), x * math.exp(-3.0), rtol=1e-4, atol=0.0)


@pytest.mark.parametrize("method", [name for name in FIXED if name != "lm"])
def test_a_block_equals_odeint(method):
    block = make_block(method)
    solution = odeint(block.field, images(), (0.0, 1.0), block.solver)
    assert torch.equal(block(images()), solution.state)
    assert block.solve(images()).stats == solution.stats


def test_the_parameters_of_a_block_are_those_of_its_field():
    block = make_block()
    block(images()).square().sum().backward()
    parameters = dict(block.named_parameters())
    assert len(parameters) == len(list(block.field.parameters())) > 0
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in parameters.values())


@pytest.mark.parametrize(
    ("method", "gradient"),
    [
        *product(FIXED, ["checkpoint", "backprop"]),
        *product(["leapfrog", "alf", "reversible_heun"], ["reversible"]),
        *product(["euler", "midpoint", "heun", "rk4"], ["adjoint"]),
    ],
)
@pytest.mark.filterwarnings("ignore:gradient='adjoint'")
def test_the_planned_statistics_count_the_evaluations_of_a_training_step(method, gradient):
    evaluations, block = [], make_block(method, 3, gradient).train()
    block(images())  # an adjoint's first solve also estimates its error
    block.field.register_forward_pre_hook(lambda *_: evaluations.append(1))
    solution = block.solve(images().requires_grad_())
    nfe = len(evaluations)
    solution.state.sum().backward()
    assert block.stats() == solution.stats == SolverStats(nfe, len(evaluations) - nfe, 3)


def test_the_statistics_of_a_model_name_its_blocks():
    blocks = [make_block("euler", 2), make_block("rk4", 3, "backprop")]
    model = nn.Sequential(nn.Conv2d(3, CHANNELS, 1), blocks[0], nn.Sequential(nn.ReLU(), blocks[1]))
    assert solver_stats(model) == {"1": SolverStats(2, 2, 2), "2.1": SolverStats(12, 0, 3)}
    assert solver_stats(nn.Conv2d(3, 3, 1)) == {}


def test_a_blocks_gradient_mode_can_be_switched():
    block, slopes = make_block("euler"), {}
    for mode in ("checkpoint", "backprop"):
        set_gradient(block, mode)
        x = images().requires_grad_()
        solution = block.solve(x)
        solution.state.square().sum().backward()
        slopes[mode] = x.grad
        assert solution.stats.nfe_backward == (2 if mode == "checkpoint" else 0)
    assert torch.equal(slopes["checkpoint"], slopes["backprop"])


def test_a_block_prints_its_solver():
    assert "method=heun, steps=3, gradient=backprop" in repr(make_block("heun", 3, "backprop"))


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_scripting_a_block_says_what_to_use_instead():
    with pytest.raises(InputError, match=r"use torch\.export, or script the plain ResNet that .*to_resnet\(model\)"):
        torch.jit.script(nn.Sequential(make_block()))


@pytest.mark.parametrize("method", FIXED)
def test_fx_follows_a_block(method):
    block = make_block(method)
    traced = torch.fx.symbolic_trace(block)
    calls = [node for node in traced.graph.nodes if node.op == "call_function" and "conv2d" in node.name]
    assert len(calls) == 2 * min_nfe(block.solver)  # two convolutions an evaluation: nothing hidden in a call
    for x in (images(), images(3, (5, 9))):
        assert torch.equal(traced(x), block(x))


def test_fx_follows_a_block_in_training():
    block = make_block("euler").train()
    traced = torch.fx.symbolic_trace(block)
    slopes = []
    for module in (block, traced):
        x = images().requires_grad_()
        module(x).square().sum().backward()
        slopes.append(x.grad)
    assert torch.equal(*slopes)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # the compiler looks at it
@pytest.mark.parametrize("drawn", [{"budgets": (1, 2)}, {"steer": 0.1}], ids=["budgets", "steer"])
def test_drawn_steps_are_no_single_graph_and_say_so(drawn):
    torch._dynamo.reset()  # or it would remember where the graph of another block breaks
    block = ODEBlock(DecayField(0.5), SolverConfig("euler", 2), **drawn)
    x = images()
    with pytest.raises(torch._dynamo.exc.Unsupported, match=r"budgets and steer draw the steps anew .*compile_fields"):
        torch.compile(block, backend="eager", fullgraph=True)(x)
    assert torch.compile(block, backend="eager")(x).shape == x.shape
    block.eval()
    assert torch.equal(torch.compile(block, backend="eager", fullgraph=True)(x), block(x))


@pytest.mark.slow
def test_the_compiler_takes_a_block_in_one_graph():
    block = make_block().train()
    compiled = torch.compile(block, backend="eager", fullgraph=True)
    x = images().requires_grad_()
    assert torch.equal(compiled(x), block(x))


@pytest.mark.slow
@pytest.mark.parametrize("method", FIXED)
def test_export_follows_a_block_with_dynamic_batch_and_size(method):
    block = make_block(method)
    batch, height, width = (torch.export.Dim(name, min=2, max=64) for name in ("batch", "height", "width"))
    exported = torch.export.export(block, (images(),), dynamic_shapes=({0: batch, 2: height, 3: width},))
    for x in (images(), images(5, (8, 12))):
        torch.testing.assert_close(exported.module()(x), block(x))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # dynamo=False is deprecated; it has no other way
@pytest.mark.parametrize("method", FIXED)
def test_onnx_follows_a_block_with_dynamic_batch_and_size(method, tmp_path):
    block, path = make_block(method), tmp_path / "block.onnx"
    axes = {0: "batch", 2: "height", 3: "width"}
    torch.onnx.export(
        block,
        (images(),),
        path,
        dynamo=False,
        input_names=["x"],
        output_names=["y"],
        dynamic_axes={"x": axes, "y": axes},
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for x in (images(), images(5, (8, 12))):
        (y,) = session.run(None, {"x": x.numpy()})
        np.testing.assert_allclose(y, block(x).detach().numpy(), rtol=1e-5, atol=1e-5)
