"""The continuous adjoint: torchdiffeq's, with its error, its warning, and the statistics of a single forward pass."""

import math

import pytest
import torch
import torchdiffeq
from closed_form_problems import CountedDecay, Turning
from solver_variants import fitting
from trained_fields import assert_buffers_equal, gradients, images, make, passes, relative_error

from odebackbones.errors import InputError, SolverError
from odebackbones.ode import METHODS, SolverConfig, odeint
from odebackbones.ode.gradients import adjoint as adjoint_module

ABLE = {name: method.torchdiffeq for name, method in METHODS.items() if method.torchdiffeq}
FIXED = [name for name in ABLE if METHODS[name].build]
ADAPTIVE = [name for name in ABLE if not METHODS[name].build]
X0 = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
WARNING = "gradient='adjoint' is not the gradient of this solve"


@pytest.fixture(autouse=True)
def warned_already(monkeypatch):
    """No warning, unless a test forgets those that have been said."""
    monkeypatch.setattr(adjoint_module, "WARNED", set(METHODS))


@pytest.fixture
def not_warned_yet(monkeypatch):
    """As at the start of a process."""
    monkeypatch.setattr(adjoint_module, "WARNED", set())


def config(method, steps=5, gradient="adjoint", **kwargs):
    return fitting(method, steps=steps, gradient=gradient, rtol=1e-3, atol=1e-4, **kwargs)


def end_and_gradients(solve, field, dtype):
    x = X0.to(dtype, copy=True).requires_grad_()
    end = solve(field, x)
    return end.detach(), *torch.autograd.grad(end.square().sum(), (x, *field.parameters()))


@pytest.mark.parametrize(
    ("dtype", "tolerance", "t_span"),
    [
        (torch.float64, 1e-10, (0.0, 1.0)),
        (torch.float64, 1e-10, (1.3, 0.2)),
        (torch.float32, 1e-6, (0.0, 0.7)),
    ],
    ids=["float64", "float64 backward in time", "float32"],
)
@pytest.mark.parametrize("method", ABLE)
def test_gradients_are_those_of_torchdiffeqs_adjoint(method, dtype, tolerance, t_span):
    times = torch.tensor(t_span, dtype=torch.float64)
    if method in FIXED:
        options = backward = {"step_size": abs(t_span[1] - t_span[0]) / 5}
    else:
        options, backward = {"step_t": times[1:]}, {}  # ends on t1 forward; steps beyond t0 backward

    def theirs(field, x):
        return torchdiffeq.odeint_adjoint(
            lambda t, x: field(float(t.detach()), x),  # a gradient by t would count in the size of the steps
            x,
            times,
            method=ABLE[method],
            rtol=1e-3,
            atol=1e-4,
            options=options,
            adjoint_options=backward,
            adjoint_params=tuple(field.parameters()),
        )[-1]

    def ours(field, x):
        return odeint(field, x, t_span, config(method)).state

    found, expected = (end_and_gradients(solve, Turning(dtype), dtype) for solve in (ours, theirs))
    for mine, other in zip(found, expected, strict=True):
        assert relative_error([mine], [other]) <= tolerance


@pytest.mark.parametrize("name", ["convolutions", "BatchNorm2d"])
def test_on_a_trained_field_few_steps_of_the_adjoint_err_and_those_of_checkpoint_do_not(name):
    adjoint, exact, plain = (
        passes(make(name), SolverConfig("euler", 4, gradient)) for gradient in ("adjoint", "checkpoint", "backprop")
    )
    assert torch.allclose(adjoint.end, plain.end, rtol=1e-5, atol=1e-6)
    for field_gradients in (lambda found: [found.slope], lambda found: gradients(found.field)):
        assert relative_error(field_gradients(exact), field_gradients(plain)) <= 5e-7
        assert relative_error(field_gradients(adjoint), field_gradients(plain)) > 0.01


def test_more_steps_of_rk4_bring_the_adjoint_to_the_closed_form():
    errors = []
    for steps in (8, 16):
        field, x = CountedDecay(-2.0), X0.clone().requires_grad_()
        odeint(field, x, solver=config("rk4", steps)).state.sum().backward()
        # of x(1) = x0 exp(r): exp(r) by x0, and x0 exp(r) by r
        found = torch.cat([x.grad.flatten(), field.rate.grad[None]])
        expected = torch.cat([torch.ones(X0.numel(), dtype=X0.dtype), X0.sum()[None]]) * math.exp(-2.0)
        errors.append(relative_error([found], [expected]))
    assert errors[0] < 1e-3
    assert math.log2(errors[0] / errors[1]) == pytest.approx(4, abs=0.3)


def test_more_steps_of_rk4_bring_the_adjoint_to_the_exact_gradient_of_a_trained_field():
    errors = []
    for steps in (2, 32):
        solvers = (config("rk4", steps, gradient) for gradient in ("adjoint", "backprop"))
        found, exact = (passes(make("convolutions").double(), solver, dtype=X0.dtype).field for solver in solvers)
        errors.append(relative_error(gradients(found), gradients(exact)))
    assert errors[0] > 1e-3
    assert errors[1] < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("method", [*FIXED, "dopri5", "bosh3"])
@pytest.mark.parametrize("name", ["BatchNorm2d", "TimeBatchNorm2d"])
def test_running_statistics_are_updated_once_and_as_by_backprop(name, method, not_warned_yet):
    before = make(name, method) if method in FIXED else make(name)
    with pytest.warns(UserWarning, match=WARNING):
        found = passes(before, fitting(method, steps=5, gradient="adjoint", rtol=1e-2))
    reference = passes(before, fitting(method, steps=5, gradient="backprop", rtol=1e-2))
    assert_buffers_equal(found.field, reference.field)
    assert any(not torch.equal(*pair) for pair in zip(found.field.buffers(), before.buffers(), strict=True))


@pytest.mark.parametrize("method", FIXED)
def test_running_statistics_behind_a_dropout_see_what_the_solve_drew(method):
    field = make("BatchNorm2d")
    field.dropout.p = 0.3
    found, reference = (passes(field, config(method, gradient=gradient)) for gradient in ("adjoint", "backprop"))
    for key, buffer in reference.field.named_buffers():
        torch.testing.assert_close(found.field.get_buffer(key), buffer, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", FIXED)
def test_the_statistics_of_fixed_steps_are_what_a_counting_field_counts(method):
    field, x = CountedDecay(), X0.clone().requires_grad_()
    solution = odeint(field, x, solver=config(method))
    forward = len(field.times)
    solution.state.sum().backward()
    assert (solution.stats.nfe, solution.stats.nfe_backward) == (forward, len(field.times) - forward)
    assert (solution.stats.steps, solution.stats.rejected) == (5, 0)


@pytest.mark.parametrize("method", ADAPTIVE)
def test_of_an_adaptive_method_only_the_backward_pass_can_tell_its_cost(method):
    field, x = CountedDecay(), X0.clone().requires_grad_()
    stats = odeint(field, x, solver=config(method)).stats
    assert stats.nfe == len(field.times) > 0
    assert stats.steps > 0
    assert stats.nfe_backward is None
    assert (stats + stats).nfe_backward is None


def test_a_solve_without_gradients_is_no_adjoint_and_warns_of_nothing(not_warned_yet):
    with torch.no_grad():
        solution = odeint(CountedDecay(), X0, solver=config("euler", 4))
    torch.testing.assert_close(solution.state, X0 * (1 - 0.7 / 4) ** 4)
    assert solution.stats.nfe_backward == 0


def test_the_warning_names_the_error_of_the_reconstruction(not_warned_yet):
    # Euler forward multiplies by 1 - 1/4 a step, backward by 1 + 1/4: the start comes back as (1 - 1/16)^4 of itself.
    missed = 100 * (1 - (1 - 1 / 16) ** 4)
    words = rf"{WARNING}: on its way back euler misses the initial state by {missed:.2g} % here.* 'checkpoint' is exact"
    with pytest.warns(UserWarning, match=words):
        odeint(CountedDecay(-1.0), X0, solver=config("euler", 4))


def test_the_warning_is_said_once_a_method(not_warned_yet):
    for method in ("euler", "rk4"):
        with pytest.warns(UserWarning, match=f"on its way back {method} misses") as said:
            for _ in range(3):
                odeint(CountedDecay(), X0, solver=config(method))
        assert len(said) == 1


def test_the_warning_draws_nothing_and_counts_nothing(not_warned_yet):
    field, ends = make("dropout"), []
    for _ in range(2):  # the first time with a warning
        torch.manual_seed(0)
        if not ends:
            with pytest.warns(UserWarning, match=WARNING):
                solution = odeint(field, images(), solver=config("euler"))
        else:
            solution = odeint(field, images(), solver=config("euler"))
        ends.append((solution, torch.get_rng_state()))
    assert ends[0][0].stats == ends[1][0].stats
    assert torch.equal(ends[0][0].state, ends[1][0].state)
    assert torch.equal(ends[0][1], ends[1][1])


@pytest.mark.parametrize("method", ["euler", "dopri5"])
def test_a_way_back_that_explodes_spoils_the_gradient_and_not_the_forward_pass(method, not_warned_yet):
    x = torch.ones(3, requires_grad=True)
    with pytest.warns(UserWarning, match=WARNING):  # backward this grows exp(300) times, beyond float32
        end = odeint(CountedDecay(-300.0, torch.float32), x, solver=config(method, 400)).state
    assert end.abs().max() < 1e-4


def test_max_nfe_bounds_the_forward_solve():
    x = X0.clone().requires_grad_()
    with pytest.raises(SolverError, match=r"max_nfe=9 evaluations are used up at t = 0\.\d+, after \d+ accepted"):
        odeint(CountedDecay(-5.0), x, solver=config("dopri5", max_nfe=9))


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ABLE])
def test_methods_that_torchdiffeq_lacks_are_refused_with_those_that_it_has(method):
    known = "euler, midpoint, heun, rk4, adaptive_heun, bosh3, dopri5, dopri8"
    with pytest.raises(InputError, match=rf"works, on equal steps, with {known}; solver '{method}' works with"):
        config(method)


@pytest.mark.parametrize("method", ["euler", "rk4"])
def test_an_uneven_grid_is_refused(method):
    with pytest.raises(InputError, match=f"'{method}' on an uneven grid works with 'checkpoint' and 'backprop'"):
        config(method, steps=None, grid=(0.3, 1.0))
