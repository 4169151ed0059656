"""Guards: states that are not finite, budgets that are used up and bad configurations are readable errors."""

import math

import numpy as np
import pytest
import torch
import torchdiffeq
from closed_form_problems import CountedDecay
from solver_variants import ONE_STEP, fitting, solver_config
from torch import nn
from trained_fields import images, make

from odebackbones.block import ODEBlock
from odebackbones.errors import InputError, SolverError
from odebackbones.ode import SolverConfig, TensorTime, odeint

X0 = torch.tensor([[1.0, -2.0]])

GRADIENTS = ("backprop", "checkpoint")
gradients = pytest.mark.parametrize("gradient", GRADIENTS)


class BadFrom(nn.Module):
    """x' = -x, but a given value from a time on."""

    def __init__(self, t_bad, value):
        super().__init__()
        self.t_bad = t_bad
        self.value = value
        self.rate = nn.Parameter(torch.tensor(-1.0))

    def forward(self, t, x):
        return self.rate * x if t < self.t_bad else self.value * torch.ones_like(x)


@pytest.mark.parametrize("grad", [True, False], ids=["with gradients", "without"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
@gradients
@pytest.mark.parametrize(
    ("method", "t_span", "step"),
    [
        ("euler", (0.0, 1.0), r"after step 3 of 4, from t = 0\.5 to 0\.75"),
        ("euler", (2.0, 0.0), r"after step 1 of 4, from t = 2 to 1\.5"),
        ("rk4", (0.0, 1.0), r"after step 2 of 4, from t = 0\.25 to 0\.5"),
        ("ab2", (0.0, 1.0), r"after step 3 of 4, from t = 0\.5 to 0\.75"),
        ("alf", (0.0, 1.0), r"after step 3 of 4, from t = 0\.5 to 0\.75"),
        ("implicit_euler", (0.0, 1.0), r"after step 2 of 4, from t = 0\.25 to 0\.5"),
    ],
)
def test_a_state_that_is_not_finite_names_the_block_and_the_step(method, t_span, step, gradient, value, grad):
    solver = fitting(method, steps=4, gradient=gradient, rtol=1e-6, atol=1e-6)
    block = ODEBlock(BadFrom(0.5, value), solver, t_span=t_span, name="layer2.1")
    with (
        torch.set_grad_enabled(grad),
        pytest.raises(SolverError, match=rf"^layer2\.1: the state is not finite {step}; "),
    ):
        block(X0)


def test_the_error_says_what_to_do():
    with pytest.raises(SolverError, match=r"lower the learning rate, clip gradients, or take more steps$"):
        odeint(BadFrom(0.5, math.nan), X0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@gradients
def test_an_initial_state_that_is_not_finite_is_not_the_solvers_fault(gradient, value):
    state = torch.tensor([[1.0, value]])
    with pytest.raises(SolverError, match=r"^the state is not finite before the solve; look at the input"):
        odeint(CountedDecay(dtype=torch.float32), state, solver=SolverConfig("rk4", 2, gradient))


def test_an_explosion_is_found_where_it_leaves_the_numbers():
    # Euler's x_n = (1 + 1e10)^n in steps of one: x_4 = 1e40 is beyond float32
    with pytest.raises(SolverError, match="after step 4 of 6, from t = 3 to 4;"):
        odeint(lambda t, x: 1e10 * x, torch.ones(3), (0.0, 6.0), SolverConfig("euler", 6, "backprop"))


def test_large_numbers_are_finite_although_their_sum_is_not():
    large = torch.full((100,), 1e37)
    end = odeint(lambda t, x: 0.0 * x, large, solver=SolverConfig("euler", 1, "backprop")).state
    assert torch.equal(end, large)


@gradients
def test_who_wants_no_check_gets_the_state_as_it_is(gradient):
    solver = SolverConfig("euler", 4, gradient, check_finite=False)
    end = odeint(BadFrom(0.5, math.nan), X0, solver=solver).state
    assert end.isnan().all()


@pytest.mark.parametrize(
    ("method", "gradient"),
    [
        ("rk4", "backprop"),
        ("ab2", "checkpoint"),
        ("leapfrog", "reversible"),
        ("euler", "adjoint"),
        ("implicit_euler", "checkpoint"),
        ("dopri5", "checkpoint"),
        ("dopri5", "adjoint"),
    ],
)
def test_an_empty_batch_stays_empty(method, gradient):
    field, x = CountedDecay(), torch.empty(0, 3, dtype=torch.float64, requires_grad=True)
    end = odeint(field, x, solver=fitting(method, steps=4, gradient=gradient)).state
    end.sum().backward()
    assert end.shape == x.grad.shape == (0, 3)
    assert all(p.grad == 0 for p in field.parameters())


def test_a_block_is_named_whose_iterations_do_not_converge_or_whose_steps_are_too_many():
    solver = SolverConfig("implicit_euler", 2, rtol=1e-6, atol=1e-6)
    with pytest.raises(SolverError, match=r"^layer3: implicit_euler: no convergence in 100 .* looser rtol, or degree"):
        ODEBlock(CountedDecay(-5.0), solver, name="layer3")(X0.double())
    with pytest.raises(InputError, match=r"^layer3: max_nfe=3: rk4 with 2 steps evaluates the field 8 times"):
        ODEBlock(CountedDecay(), SolverConfig("rk4", 2, max_nfe=3), name="layer3")


@gradients
def test_slopes_of_another_shape_are_refused(gradient):
    for slope, said in SLOPES:
        with pytest.raises(InputError, match=said):
            odeint(lambda t, x: slope, torch.ones(3), solver=SolverConfig("euler", 2, gradient), parameters=())  # noqa: B023


SLOPES = [
    (torch.ones(2, 3), r"a slope of the shape \(2, 3\) for a state of \(3,\): return slopes of the state's shape"),
    (torch.ones(1), r"a slope of the shape \(1,\) for a state of \(3,\)"),
    (1.0, "gives a float: return a tensor of the state's shape"),
    (None, "gives a NoneType: return a tensor"),
    (
        torch.ones(3, dtype=torch.int64),
        "gives a slope of torch.int64 for a state of torch.float32: return real numbers",
    ),
    (torch.ones(3, dtype=torch.complex64), "gives a slope of torch.complex64 for a state of torch.float32"),
]


@gradients
def test_a_slope_of_higher_precision_leaves_the_state_in_its_own(gradient):
    x = torch.ones(3, requires_grad=True)
    end = odeint(lambda t, x: -x.double(), x, solver=SolverConfig("euler", 2, gradient), parameters=()).state
    end.sum().backward()
    assert end.dtype == x.grad.dtype == torch.float32
    assert end.tolist() == [0.25] * 3


@gradients
@pytest.mark.parametrize("grad", [True, False])
def test_a_field_that_changes_its_input_in_place_is_named(gradient, grad):
    field = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(2, 2))
    with torch.set_grad_enabled(grad), pytest.raises(InputError, match=r"changes its input in place .at t = 0"):
        odeint(Untimed(field), 1.0 * X0.clone().requires_grad_(), solver=SolverConfig("euler", 2, gradient))


class Untimed(nn.Module):
    """A field that does not depend on time."""

    def __init__(self, field):
        super().__init__()
        self.field = field

    def forward(self, t, x):
        return self.field(x)


def test_so_is_one_in_inference_mode_where_tensors_count_no_changes():
    with torch.inference_mode(), pytest.raises(InputError, match="changes its input in place"):
        ODEBlock(Untimed(nn.Sequential(nn.ReLU(inplace=True), nn.Linear(2, 2))), SolverConfig("euler", 2))(X0.clone())


@pytest.mark.parametrize("field", [lambda t, x: torch.sin(t) * x, lambda t, x: x * t.view(1)])
def test_a_field_for_tensors_as_times_is_told_how_to_be_ported(field):
    with pytest.raises(InputError, match=r"its time 0, which is a number here .*TensorTime\(field\)"):
        odeint(field, X0)
    end = odeint(TensorTime(field), X0, solver=SolverConfig("rk4", 8)).state
    expected = torchdiffeq.odeint(field, X0, torch.tensor([0.0, 1.0]), method="rk4", options={"step_size": 1 / 8})[-1]
    torch.testing.assert_close(end, expected)


def test_an_error_of_the_field_itself_stays_what_it_is():
    with pytest.raises(TypeError, match=r"no attribute|must be|unsupported"):
        odeint(lambda t, x: x + "a", X0)


@pytest.mark.parametrize("others", [{"method": "rk4"}, {"rtol": 1e-5}, {"options": {"step_size": 0.1}}])
def test_arguments_of_torchdiffeq_are_refused_with_the_words_for_them_here(others):
    with pytest.raises(InputError, match=r"odeint takes its options as solver=SolverConfig\(\.\.\.\), such as"):
        odeint(lambda t, x: -x, X0, torch.tensor([0.0, 1.0]), **others)


@pytest.mark.parametrize(
    "state", [[torch.ones(2)], {"x": torch.ones(2)}, np.ones(2), 1.0, (torch.ones(2), 1.0)], ids=str
)
def test_a_state_that_is_no_tensor_is_refused_in_one_line(state):
    with pytest.raises(InputError, match=r"a state with a \w+: expected a tensor, or a tuple of tensors"):
        odeint(lambda t, x: x, state)


@pytest.mark.parametrize("variant", [name for name in ONE_STEP if name != "lm"])
@gradients
def test_a_state_that_is_finite_costs_no_evaluation(variant, gradient):
    fields = [CountedDecay(), CountedDecay()]
    for check, field in zip((True, False), fields, strict=True):
        solver = solver_config(variant, 5, gradient, check_finite=check)
        odeint(field, X0.double(), solver=solver).state.sum().backward()
    assert fields[0].times == fields[1].times
    assert len(fields[0].times) == 5 * ONE_STEP[variant] * (2 if gradient == "checkpoint" else 1)


class Spoilt(nn.Module):
    """A field with statistics and random draws that ends in NaN."""

    def __init__(self):
        super().__init__()
        self.field = make("BatchNorm2d")
        self.field.dropout.p = 0.3

    def forward(self, t, x):
        return self.field(t, x) * (math.nan if t > 0.5 else 1.0)


def test_the_search_for_a_bad_step_leaves_statistics_and_generators_as_the_solve_left_them():
    after = []
    for check in (True, False):
        field = Spoilt()
        torch.manual_seed(0)
        try:
            odeint(field, images(), solver=SolverConfig("euler", 4, "backprop", check_finite=check))
        except SolverError as error:
            assert check and "after step 4 of 4" in str(error)
        else:
            assert not check
        assert field.field.norm.track_running_stats
        after.append((*field.buffers(), torch.get_rng_state()))
    assert all(map(torch.equal, *after))


@pytest.mark.parametrize("gradient", [*GRADIENTS, "reversible"])
def test_the_meta_device_has_no_values_to_check(gradient):
    x = torch.empty(2, 3, device="meta", requires_grad=True)
    solver = SolverConfig("leapfrog", 4, gradient)
    with torch.no_grad():
        assert odeint(lambda t, x: -x, x, solver=solver, parameters=()).state.shape == (2, 3)
    solution = odeint(lambda t, x: -x, x, solver=solver, parameters=())
    assert solution.state.device.type == "meta"
    assert (solution.state.shape, solution.stats.nfe) == ((2, 3), 4)


@pytest.mark.filterwarnings("ignore:`torch.jit")  # torch scripts its own formulae for jacfwd
@pytest.mark.parametrize("transform", [torch.func.vmap, torch.func.jacrev, torch.func.jacfwd], ids=lambda f: f.__name__)
@gradients
def test_transforms_of_torch_func_check_nothing(gradient, transform):
    def end(x):
        return odeint(lambda t, x: math.nan * x, x, solver=SolverConfig("euler", 2, gradient), parameters=()).state

    assert transform(end)(X0).isnan().all()
    with pytest.raises(SolverError):
        end(X0)
