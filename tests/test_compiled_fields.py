"""Compiled fields: the same gradients, and one graph for all times."""

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
from small_blocks import CHANNELS, images, make_block
from torch import nn

from odebackbones import change_solver
from odebackbones.block import ODEBlock, compile_fields
from odebackbones.fields.norms import norm_layer
from odebackbones.fields.residual import BasicField
from odebackbones.ode import SolverConfig
from odebackbones.ode.solvers import evaluation_times


def count_compilations():
    """A backend for torch.compile that counts the graphs it gets."""
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    return graphs, backend


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # dynamo's own, which it hides from showwarning only
@pytest.mark.parametrize("gradient", ["checkpoint", "backprop"])
def test_compiled_fields_give_the_same_gradients(gradient):
    slopes = []
    for compiled in (False, True):
        block = make_block(SolverConfig("rk4", 3, gradient))
        if compiled:
            compile_fields(block, backend="aot_eager")
        x = images().requires_grad_()
        block(x).square().sum().backward()
        slopes.append([x.grad, *(p.grad for p in block.parameters())])
    for found, expected in zip(*slopes, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_one_graph_serves_all_times_of_a_field():
    """Statistics, weights and gains of every time enter it; in training, in a recomputation and in evaluation."""
    graphs, backend = count_compilations()
    torch.manual_seed(0)
    solver = SolverConfig("euler", 12)
    norm = norm_layer("batch", nodes=evaluation_times(solver), bases=4)
    block = ODEBlock(BasicField(CHANNELS, width=6, norm=norm, bases=4), solver)
    plain = copy.deepcopy(block)
    compile_fields(block, backend=backend)
    for training, count in ((True, 2), (True, 2), (False, 4)):
        for model in (block, plain):
            model.train(training)
            model.zero_grad()
            model(images()).square().sum().backward()
        assert len(graphs) == count  # without and with a graph for autograd
    for (name, found), expected in zip(block.named_buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(found, expected, msg=name)
    for found, expected in zip(block.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kwargs", [{"time_channel": True}, {"norm": "group"}, {"norm": "frozen"}, {"solver": "rk4"}], ids=str
)
def test_compiled_models_of_all_kinds_give_the_same_logits(kwargs):
    torch.manual_seed(0)
    model = timm.create_model("ode_resnet18", num_classes=5, zero_init_last=False, bases=2, steps=3, **kwargs).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = model(x)
        compile_fields(model, backend="eager")
        torch.testing.assert_close(model(x), expected)
        compile_fields(changed := change_solver(model, steps=5), backend="eager")
        torch.testing.assert_close(changed(x), change_solver(model, steps=5)(x))


def test_a_field_without_time_is_compiled_once_for_all_steps():
    class Field(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)

        def forward(self, t, x):
            return torch.tanh(self.conv(x))

    graphs, backend = count_compilations()
    block = ODEBlock(Field(), SolverConfig("euler", 6)).eval()
    expected = copy.deepcopy(block)(images())
    compile_fields(block, backend=backend)
    with torch.no_grad():
        assert torch.equal(block(images()), expected)
        block(F.relu(images()))
    assert len(graphs) == 1


def test_a_compiled_field_that_gets_hooks_calls_them_and_says_that_it_is_not_compiled():
    graphs, backend = count_compilations()
    block = ODEBlock(
        BasicField(CHANNELS, width=6, norm=norm_layer("batch", nodes=[0.0, 0.5], bases=1)), SolverConfig("euler", 2)
    )
    compile_fields(block, backend=backend)
    calls = []
    block.field.conv1.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad(), pytest.warns(UserWarning, match="has got hooks: it runs as it is, not compiled"):
        block(images())
    assert len(calls) == 2 and not graphs
