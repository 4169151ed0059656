"""What a field computes with and no module of it holds gets its gradient, or is refused by name."""

import pytest
import torch
from conditioned_fields import Conditioned
from fields_with_state import ALL, assert_same, by_backprop, gradients_of, numbers, seeded
from torch import nn
from torch.nn.utils import parametrizations, parametrize, weight_norm
from trained_fields import relative_error

from odebackbones.block import ODEBlock
from odebackbones.errors import InputError
from odebackbones.ode import SolverConfig, odeint

pytestmark = pytest.mark.filterwarnings("ignore:gradient='adjoint' is not the gradient")
ADJOINT = SolverConfig("dopri5", gradient="adjoint", rtol=1e-6, atol=1e-8)
PRECISE = SolverConfig("dopri5", gradient="backprop", rtol=1e-6, atol=1e-8)


def encoder():
    return seeded(lambda: nn.Linear(2, 3))


def attribute():
    """Of a module: a tensor with a graph."""

    class Field(Conditioned):
        def forward(self, t, x):
            return super().forward(t, x) + self.context

    field, encode = Field(), encoder()
    field.context = torch.tanh(encode(torch.ones(1, 2)))
    return field, [*encode.parameters()]


def listed_layers():
    """In a list: layers, one of which drops, and one with statistics."""
    field, layers = Conditioned(), [nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.3)]
    field.layers, field.apply_to = layers, nn.Sequential(*layers).forward
    return field, [p for layer in layers for p in layer.parameters()]


def closed_over_layer():
    """In a closure: a layer."""
    layer = seeded(lambda: nn.Linear(3, 3))
    return Conditioned(lambda x: layer(x)), [*layer.parameters()]


def closed_over_context():
    """In a closure: what an encoder has computed, of which two parts are used."""
    encode = encoder()
    context, scale = torch.tanh(encode(torch.ones(1, 2))), encode.weight.sum()
    return Conditioned(lambda x: context * x + scale * context[0, 1:2]), [*encode.parameters()]


DEPENDENT = {make.__doc__: make for make in (attribute, listed_layers, closed_over_layer, closed_over_context)}


def gradients(make, solver):
    torch.manual_seed(1)
    field, others = seeded(make)
    x = numbers(4, 3).requires_grad_()
    odeint(field, x, solver=solver).state.square().sum().backward()
    return {**gradients_of(field, x), **{f"other {i}": p.grad for i, p in enumerate(others)}}


@ALL
@pytest.mark.parametrize("make", DEPENDENT.values(), ids=DEPENDENT)
def test_every_tensor_with_a_graph_gets_the_gradient_of_backprop(make, solver):
    if make is listed_layers and solver.method in ("dopri5", "implicit_euler"):
        pytest.skip("they compare evaluations, which dropout draws")
    assert_same(gradients(make, solver), gradients(make, by_backprop(solver)))


@pytest.mark.parametrize("make", [attribute, closed_over_layer, closed_over_context])
def test_the_adjoint_equation_has_their_gradients_too(make):
    found, expected = gradients(make, ADJOINT), gradients(make, PRECISE)
    for name, value in expected.items():
        assert relative_error([found[name]], [value]) < 1e-4, name


@ALL
def test_a_tensor_that_only_later_steps_need_is_refused_or_given_to_the_block(solver):
    late = numbers(3, seed=5).requires_grad_()

    class Field(Conditioned):
        def forward(self, t, x):
            return super().forward(t, x) * (late if t > 0.5 else 1.0)

    def gradient_of(config, **kwargs):
        late.grad = None
        block = ODEBlock(seeded(Field), config, **kwargs)
        block(numbers(4, 3).requires_grad_()).square().sum().backward()
        return late.grad

    expected = gradient_of(by_backprop(solver))
    torch.testing.assert_close(gradient_of(solver, parameters=[late]), expected, rtol=1e-4, atol=1e-5)
    if solver.method == "implicit_euler" or solver.steps == 5:
        with pytest.raises(InputError, match=r"tensor of the shape \(3,\) .* none of its modules .* parameters="):
            gradient_of(solver)


@pytest.mark.slow
def test_a_compiled_field_has_no_more_graphs_for_it_and_the_backward_pass_refuses():
    late = numbers(3, seed=5).requires_grad_()

    class Field(Conditioned):
        def forward(self, t, x):
            return super().forward(t, x) * late

    block = ODEBlock(Field(), SolverConfig("euler", 3))
    block.field.compile(backend="eager")
    end = block(numbers(4, 3).requires_grad_())
    with pytest.raises(InputError, match=r"tensor of the shape \(3,\) .* none of its modules .* parameters="):
        end.sum().backward()


@ALL
def test_a_context_that_is_another_at_every_evaluation_is_refused_with_its_shape(solver):
    encode = encoder()
    contexts = [encode(torch.ones(1, 2)) for _ in range(1000)]
    field = Conditioned(lambda x: x + contexts.pop())
    with pytest.raises(InputError, match=r"depends on a tensor of the shape \(1, 3\) that wants a gradient"):
        odeint(field, numbers(4, 3).requires_grad_(), solver=solver)
    odeint(field, numbers(4, 3).requires_grad_(), solver=by_backprop(solver))


class Collecting(Conditioned):
    """Keeps a loss of its slopes, and the slopes."""

    def __init__(self):
        super().__init__()
        self.penalty, self.slopes = 0.0, []

    def forward(self, t, x):
        slope = super().forward(t, x)
        self.penalty = self.penalty + slope.square().mean()
        self.slopes.append(slope)
        return slope


COLLECTED = {"penalty": lambda field: field.penalty, "slopes": lambda field: field.slopes[-1].sum()}


@ALL
@pytest.mark.parametrize("name", COLLECTED)
def test_a_loss_that_a_field_collects_is_refused_by_name_where_it_has_no_graph(name, solver):
    field = Collecting()
    end = odeint(field, numbers(4, 3).requires_grad_(), solver=solver).state
    evaluations = len(field.slopes)
    end.sum().backward(retain_graph=True)  # without it, all is well, and the field keeps what it had
    assert len(field.slopes) == evaluations
    with pytest.raises(InputError, match=rf"Collecting.{name} was computed in a solve that keeps no graph"):
        (end.sum() + COLLECTED[name](field)).backward()


def test_a_part_of_the_state_is_the_way_to_collect_a_loss():
    class Penalized(Conditioned):
        def forward(self, t, state):
            slope = super().forward(t, state[0])
            return slope, slope.square().mean(1)

    found = []
    for gradient in ("checkpoint", "backprop"):
        field, x = seeded(Penalized), numbers(4, 3).requires_grad_()
        end, penalty = odeint(field, (x, torch.zeros(4)), solver=SolverConfig("rk4", 3, gradient)).state
        (end.square().sum() + penalty.sum()).backward()
        found.append(gradients_of(field, x))
    assert_same(*found)


@ALL
def test_weights_that_hooks_compute_can_be_looked_at(solver):
    found = []
    for config in (solver, by_backprop(solver)):
        field, x = seeded(Conditioned), numbers(4, 3).requires_grad_()
        with pytest.warns(FutureWarning, match="weight_norm"):
            weight_norm(field.linear)
        for _ in range(2):
            odeint(field, x, solver=config).state.sum().backward()
        found.append((gradients_of(field, x), field.linear.weight.detach().clone()))
        assert "Ungraphed" not in str(field.linear.weight.grad_fn)
    assert_same(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1])


def test_the_adjoint_counts_a_cached_weight_and_its_source_once():
    found = []
    for solver in (ADJOINT, PRECISE):
        field, x = seeded(Conditioned), numbers(4, 3).requires_grad_()
        parametrizations.weight_norm(field.linear)
        with parametrize.cached():
            odeint(field, x, solver=solver).state.square().sum().backward()
        found.append(gradients_of(field, x))
    for name, value in found[1].items():
        assert relative_error([found[0][name]], [value]) < 1e-4, name


@pytest.mark.parametrize("method", ["euler", "dopri5"])
def test_the_gradient_of_a_constant_field_is_zero_by_the_adjoint_equation(method):
    x = numbers(4, 3).requires_grad_()
    steps = {"steps": 3} if method == "euler" else {}
    field = nn.Module()
    field.unused, field.forward = nn.Parameter(torch.ones(3)), lambda t, x: torch.full_like(x, 2.0)
    end = odeint(field, x, solver=SolverConfig(method, gradient="adjoint", **steps)).state
    end.square().sum().backward()
    torch.testing.assert_close(x.grad, 2.0 * (x.detach() + 2.0))
    assert field.unused.grad is None or not field.unused.grad.any()


class Hamiltonian(nn.Module):
    """A field that is the derivative of an energy, computed in three ways."""

    def __init__(self, slope):
        super().__init__()
        self.energy, self.slope = nn.Linear(3, 3), slope

    def forward(self, t, x):
        return self.slope(lambda x: torch.tanh(self.energy(x)).square().sum(), x)


def by_autograd(energy, x):
    return torch.autograd.grad(energy(x), x, create_graph=True)[0]


def by_autograd_in_any_mode(energy, x):
    with torch.enable_grad():
        return by_autograd(energy, x if x.requires_grad else x.detach().requires_grad_())


@pytest.mark.parametrize("gradient", ["checkpoint", "adjoint"])
def test_a_field_that_takes_derivatives_needs_a_graph_and_is_told_how(gradient):
    def gradients(slope, solver):
        field, x = seeded(lambda: Hamiltonian(slope)), numbers(4, 3).requires_grad_()
        odeint(field, x, solver=solver).state.square().sum().backward()
        return gradients_of(field, x)

    expected = gradients(by_autograd_in_any_mode, PRECISE)
    solver = SolverConfig("dopri5", gradient=gradient, rtol=1e-6, atol=1e-8)
    with pytest.raises(InputError, match=r"Hamiltonian takes derivatives, .* torch.func.grad"):
        gradients(by_autograd, solver)
    for slope in (by_autograd_in_any_mode, lambda energy, x: torch.func.grad(energy)(x)):
        found = gradients(slope, solver)
        for name, value in expected.items():
            if value is not None and value.any():
                assert relative_error([found[name]], [value]) < 1e-4, name


@ALL
def test_lazy_layers_are_run_once_before_they_are_trained(solver):
    class Field(Conditioned):
        def __init__(self):
            super().__init__()
            self.linear = nn.LazyLinear(3)

    block = ODEBlock(Field(), solver)
    with pytest.raises(InputError, match=r"LazyLinear does not know the shape .* torch.no_grad"):
        block(numbers(4, 3))
    with torch.no_grad():
        block(numbers(4, 3))
    block(numbers(4, 3)).sum().backward()
    assert block.field.linear.weight.grad.any()


@pytest.mark.parametrize("times", [(0.0, float("inf")), (float("-inf"), 0.0), (0.0, 1.0, float("inf"))])
def test_infinite_times_are_refused_before_the_solve(times):
    with pytest.raises(InputError, match="expected finite times"):
        odeint(Conditioned(), numbers(4, 3), times)
    with pytest.raises(InputError, match="expected finite times"):
        ODEBlock(Conditioned(), SolverConfig(), t_span=times[-2:])
