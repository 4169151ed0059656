"""Options of ODE blocks: augmented states, drawn steps and end times, another solver for the same field."""

import math

import pytest
import torch
from small_blocks import CHANNELS, images, make_block
from torch import nn

from odebackbones import InputError, SolverError, fuse
from odebackbones.block import ODEBlock, compile_fields, set_gradient
from odebackbones.fields.batch_norm import TimeBatchNorm2d
from odebackbones.ode import SolverConfig, SolverStats, odeint


class DecayField(nn.Module):
    """x' = -r x."""

    def __init__(self, rate=1.5):
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(rate, dtype=torch.float64))

    def forward(self, t, x):
        return -self.rate * x


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


def test_parameters_keep_their_order_when_the_solver_changes():
    block = ODEBlock(DecayField(), SolverConfig("lm", 4))
    names = [name for name, _ in block.named_parameters()]
    set_gradient(block, "backprop")
    assert [name for name, _ in block.named_parameters()] == names == ["method.coefficients", "field.rate"]


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
