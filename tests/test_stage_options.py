"""Options of ODE blocks: augmented states, drawn steps and end times, another solver for the same field."""

import copy
import math

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from odebackbones import InputError, SolverError, change_solver, fuse
from odebackbones.block import ODEBlock, compile_fields, set_gradient
from odebackbones.fields.batch_norm import TimeBatchNorm2d
from odebackbones.fields.norms import norm_layer
from odebackbones.fields.residual import BasicField
from odebackbones.ode import SolverConfig, SolverStats, odeint
from odebackbones.ode.solvers import evaluation_times

CHANNELS = 4


class DecayField(nn.Module):
    """x' = -r x."""

    def __init__(self, rate=1.5):
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(rate, dtype=torch.float64))

    def forward(self, t, x):
        return -self.rate * x


def images(batch=2, dtype=torch.float32, seed=1):
    return torch.randn(batch, CHANNELS, 6, 7, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def make_block(solver=None, channels=CHANNELS, **kwargs):
    torch.manual_seed(0)
    solver = solver or SolverConfig("midpoint", 2)
    nodes = evaluation_times(solver, budgets=kwargs.get("budgets", ()))
    field = BasicField(channels, width=6, norm=norm_layer("batch", nodes=nodes, bases=1))
    return ODEBlock(field, solver, **kwargs)


def decay(**kwargs):
    return ODEBlock(DecayField(), SolverConfig("rk4", 8), **kwargs)


def rates(block, solves=200):
    """-log(x(T) / x(0)) / r = T of that many solves."""
    x = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    with torch.no_grad():
        return [-math.log(block(x)) / 1.5 for _ in range(solves)]


def test_an_augmented_state_starts_with_channels_of_zeros_that_are_left_out_at_the_end():
    block = make_block(channels=CHANNELS + 3, augment=3).eval()
    x = images()
    padded = torch.cat([x, torch.zeros(2, 3, 6, 7)], dim=1)
    expected = odeint(block.field, padded, solver=block.solver).state
    assert block(x).shape == x.shape
    assert torch.equal(block(x), expected[:, :CHANNELS])
    assert expected[:, CHANNELS:].abs().max() > 0.01  # the added channels do move


@pytest.mark.slow
def test_drawn_steps_are_those_of_the_budgets_in_training_only():
    block = make_block(SolverConfig("euler", 3), budgets=(1, 2, 8))
    seen = set()
    torch.manual_seed(0)
    for _ in range(40):
        seen.add(block.solve(images()).stats.nfe)
        assert block.stats().nfe in (1, 2, 8)
    assert seen == {1, 2, 8}
    assert block.eval().solve(images()).stats.nfe == 3
    assert block.stats() == SolverStats(3, 3, 3)


def test_drawn_steps_follow_from_the_seed():
    block = make_block(SolverConfig("euler", 3), budgets=(1, 2, 4, 8))
    runs = []
    for _ in range(2):
        torch.manual_seed(3)
        runs.append([block.solve(images()).stats.nfe for _ in range(10)])
    assert runs[0] == runs[1] and len(set(runs[0])) > 1


def test_norms_have_statistics_at_the_times_of_all_budgets():
    block = make_block(SolverConfig("euler", 2), budgets=(2, 3))
    [nodes] = {tuple(module.nodes) for module in block.modules() if isinstance(module, TimeBatchNorm2d)}
    assert nodes == pytest.approx((0, 1 / 3, 1 / 2, 2 / 3))
    norm, before = block.field.norm1, block.field.norm1.running_mean.clone()
    torch.manual_seed(0)
    while block.solve(images()).stats.nfe != 3:  # a solve of 3 steps moves the statistics at 0, 1/3 and 2/3
        before = norm.running_mean.clone()
    moved = (norm.running_mean != before).any(dim=1)
    assert moved.tolist() == [True, True, False, True]


def test_gradients_with_drawn_steps_are_those_of_the_solver_drawn():
    block = make_block(SolverConfig("euler", 1), budgets=(5,))
    fixed = make_block(SolverConfig("euler", 5))
    slopes = []
    for model in (block, fixed):
        x = images().requires_grad_()
        model(x).square().sum().backward()
        slopes.append(x.grad)
    assert torch.equal(*slopes)


def test_the_end_time_is_drawn_evenly_from_around_its_mean_in_training_only():
    block = decay(steer=0.5)
    torch.manual_seed(0)
    ends = rates(block)
    assert min(ends) == pytest.approx(0.5, abs=0.03) and max(ends) == pytest.approx(1.5, abs=0.03)
    assert sum(ends) / len(ends) == pytest.approx(1.0, abs=0.06)
    assert sum(0.75 < end < 1.25 for end in ends) / len(ends) == pytest.approx(0.5, abs=0.1)
    assert rates(block.eval(), 3) == pytest.approx([1.0] * 3, abs=2e-5)


def test_the_end_time_is_drawn_on_a_span_that_runs_backward_too():
    block = decay(steer=0.25, t_span=(1.0, 0.0))
    torch.manual_seed(0)
    ends = rates(block)
    assert -1.25 < min(ends) < -1.2 and -0.8 < max(ends) < -0.75


def test_set_solver_gives_the_block_that_was_built_with_it():
    block, other = make_block(SolverConfig("rk4", 3)), make_block(SolverConfig("ab2", 5))
    block.set_solver(SolverConfig("ab2", 5))
    assert block.solver == SolverConfig("ab2", 5) and block.stats() == other.stats()
    assert torch.equal(block(images()), other(images()))  # in training: the batch's own statistics


@pytest.mark.parametrize("change", [compile_fields, lambda model: set_gradient(model, "backprop")])
def test_a_model_without_ode_blocks_has_nothing_to_set(change):
    with pytest.raises(InputError, match="Linear has no ODE block"):
        change(nn.Linear(2, 2))


def test_a_gradient_mode_leaves_the_coefficients_of_lm_and_the_drawing_of_steps():
    block = make_block(SolverConfig("lm", 3))
    nn.init.constant_(block.method.coefficients, 0.3)
    coefficients, expected = block.method.coefficients, block(images())
    set_gradient(block, "backprop")
    assert block.method.coefficients is coefficients and torch.equal(block(images()), expected)
    with pytest.raises(InputError, match="'lm' belong to its steps"):
        block.set_solver(SolverConfig("lm", 4))
    drawing = make_block(budgets=(1, 4))
    times = drawing.field.norm1.nodes
    set_gradient(drawing, "backprop")
    assert drawing.budgets == (1, 4) and drawing.field.norm1.nodes == times


def test_a_drawn_end_time_does_not_go_with_another_solvers_own_steps():
    with pytest.raises(InputError, match="steer"):
        decay(steer=0.2).set_solver(SolverConfig("rk4", grid=(0.5, 1.0)))


def test_an_empty_batch_goes_through_a_fused_block_of_any_times():
    block = make_block(SolverConfig("implicit_euler", 2, degree=2)).eval()
    assert fuse(block)(images(0)).shape == images(0).shape


def test_set_solver_ends_the_drawing_of_steps():
    block = make_block(SolverConfig("euler", 2), budgets=(1, 4))
    block.set_solver(SolverConfig("euler", 3))
    assert {block.solve(images()).stats.nfe for _ in range(10)} == {3}


def test_the_coefficients_of_lm_are_saved_and_trained():
    block = make_block(SolverConfig("lm", 4))
    assert block.state_dict()["method.coefficients"].shape == (4,)
    block(images()).square().sum().backward()
    assert block.method.coefficients.grad[1:].abs().min() > 0
    assert block.method.coefficients.grad[0] == 0  # before the first step the state has not moved
    with torch.no_grad():
        block.method.coefficients.fill_(0.3)
    loaded = make_block(SolverConfig("lm", 4))
    loaded.load_state_dict(block.state_dict())
    assert torch.equal(loaded.eval()(images()), block.eval()(images()))


def test_a_state_that_is_not_finite_names_the_block():
    block = ODEBlock(DecayField(), SolverConfig("euler", 4), name="layer3")
    with torch.no_grad():
        block.field.rate.fill_(math.inf)
    with pytest.raises(SolverError, match=r"layer3: .* after step 1 of 4, from t = 0 to 0\.25"):
        block(images(dtype=torch.float64))


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"steer": 1.0}, "steer=1.0"),
        ({"steer": -0.1}, "steer=-0.1"),
        ({"steer": 0.2, "solver": SolverConfig("lm", 2)}, "lm"),
        ({"budgets": (1, 2), "solver": SolverConfig("euler", grid=(0.5, 1.0))}, "grid"),
        ({"budgets": 3}, r"budgets=3: expected numbers of steps, such as \(1, 2, 4\)"),
        ({"budgets": (0, 3)}, "budgets=0: expected a whole number"),
        ({"t_span": (1.0, 1.0)}, "t_span"),
        ({"vector_field": lambda t, x: x}, "expected a torch.nn.Module"),
    ],
)
def test_options_that_make_no_sense_are_refused(kwargs, words):
    arguments = {"vector_field": DecayField(), "solver": SolverConfig("euler", 2), **kwargs}
    with pytest.raises(InputError, match=words):
        ODEBlock(arguments.pop("vector_field"), arguments.pop("solver"), **arguments)


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
