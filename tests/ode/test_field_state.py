"""Recomputations find what the forward pass had: parameters, buffers, modes, whatever a backward pass finds by then."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize, spectral_norm, weight_norm
from trained_fields import assert_buffers_equal, relative_error

from odebackbones.errors import InputError
from odebackbones.fields import BasicField
from odebackbones.ode import SolverConfig, odeint
from odebackbones.ode.solvers import evaluation_times
from odebackbones.stages import ODEBlock
from odebackbones.time_norms import norm_layer

SOLVERS = {
    "checkpoint, Euler": SolverConfig("euler", 5),
    "checkpoint, midpoint": SolverConfig("midpoint", 5),
    "2 checkpoints, midpoint": SolverConfig("midpoint", 5, checkpoints=2),
    "sqrt of checkpoints, ab2": SolverConfig("ab2", 5, checkpoints="sqrt"),
    "checkpoint, implicit Euler": SolverConfig("implicit_euler", 5, degree=2),
    "checkpoint, dopri5": SolverConfig("dopri5"),
    "reversible, leapfrog": SolverConfig("leapfrog", 5, "reversible"),
    "reversible, alf": SolverConfig("alf", 5, "reversible"),
    "reversible, reversible Heun": SolverConfig("reversible_heun", 5, "reversible"),
}
ALL = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)


def by_backprop(solver):
    """The same solve with plain backpropagation, in the same arithmetic."""
    state_dtype = "int32" if solver.gradient == "reversible" else "auto"
    return replace(solver, gradient="backprop", checkpoints="every", state_dtype=state_dtype)


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def seeded(make):
    torch.manual_seed(0)
    return make()


class Layers(nn.Module):
    """Layers as a vector field."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, t, x):
        return (1.0 + t) * self.layers(x)


def tanh_field():
    return seeded(lambda: Layers(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 3)))


def assert_same(found, expected, tolerance=2e-6):
    """All gradients, relative to each one's norm, but for those that are zero up to rounding (biases before norms)."""
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] is None] == [name for name in found if expected[name] is None]
    pairs = {name: (found[name], value) for name, value in expected.items() if value is not None}
    largest = max(float(value.abs().max()) for _, value in pairs.values())
    compared = {name: pair for name, pair in pairs.items() if pair[1].abs().max() > 1e-4 * largest}
    assert len(compared) >= max(2, 0.6 * len(pairs))
    for name, (gradient, value) in compared.items():
        assert relative_error([gradient], [value]) <= tolerance, name


def gradients_of(module, x):
    return {"input": x.grad, **{name: p.grad for name, p in module.named_parameters()}}


# 1. Tensors in place of parameters


def called_functionally(solver):
    """Gradients of the tensors that stand in for the parameters of a network with an ODE block."""
    network = nn.Sequential(nn.Linear(3, 3), ODEBlock(tanh_field(), solver))
    leaves = {n: numbers(*p.shape, seed=i).requires_grad_() for i, (n, p) in enumerate(network.named_parameters())}
    x = numbers(4, 3).requires_grad_()
    end = torch.func.functional_call(network, {name: 0.5 * leaf for name, leaf in leaves.items()}, x)
    end.square().sum().backward()
    assert all(p.grad is None for p in network.parameters())
    return {"input": x.grad, **{name: leaf.grad for name, leaf in leaves.items()}}


@ALL
def test_a_functional_call_gives_its_tensors_their_gradients(solver):
    assert_same(called_functionally(solver), called_functionally(by_backprop(solver)))


def replica_of(module, taken):
    """As ``nn.parallel.replicate`` makes one, which needs GPUs."""
    replica = module._replicate_for_data_parallel()
    for name, child in module._modules.items():
        setattr(replica, name, None if child is None else replica_of(child, taken))
    for name, p in module._parameters.items():
        if p is not None:
            taken[id(p)] = taken.get(id(p), 1.0 * p)
            setattr(replica, name, taken[id(p)])
    return replica


@ALL
@pytest.mark.parametrize("make", [tanh_field, lambda: time_field(SolverConfig("euler", 2))], ids=["linear", "lists"])
def test_replicas_of_data_parallel_train_the_parameters(make, solver):
    found = []
    for config in (solver, by_backprop(solver)):
        block = ODEBlock(seeded(make), config)
        shape = (4, 3) if make is tanh_field else (4, 3, 5, 5)
        x = numbers(*shape).requires_grad_()
        replica_of(block, {})(x).square().sum().backward()
        found.append(gradients_of(block, x))
    assert_same(*found)


@ALL
def test_a_tensor_in_place_of_a_deleted_parameter_gets_its_gradient(solver):
    found = []
    for config in (solver, by_backprop(solver)):
        field, leaf, x = tanh_field(), numbers(5, 3, seed=3).requires_grad_(), numbers(4, 3).requires_grad_()
        del field.layers[0].weight
        field.layers[0].weight = leaf.sin()
        odeint(field, x, solver=config).state.square().sum().backward()
        del field.layers[0].weight
        found.append({"input": x.grad, "leaf": leaf.grad} | {n: p.grad for n, p in field.named_parameters()})
    assert_same(*found)


@ALL
@pytest.mark.parametrize("inside", [True, False], ids=["inside", "after"])
def test_cached_parametrizations_keep_their_gradients(inside, solver):
    found = []
    for config in (solver, by_backprop(solver)):
        field, x = tanh_field(), numbers(4, 3).requires_grad_()
        parametrizations.weight_norm(field.layers[0])
        with parametrize.cached():
            end = odeint(field, x, solver=config).state
            loss = end.square().sum() + field.layers[0].weight.sum()  # the cached weight serves others, too
            if inside:
                loss.backward()
        if not inside:
            loss.backward()
        found.append(gradients_of(field, x))
    assert_same(*found)


@ALL
def test_tensors_that_hooks_keep_elsewhere_are_found_again(solver):
    found = []
    for config in (solver, by_backprop(solver)):
        field, x = tanh_field(), numbers(4, 3).requires_grad_()
        with torch.autograd.graph.save_on_cpu():
            end = odeint(field, x, solver=config).state
        end.square().sum().backward()
        found.append(gradients_of(field, x))
    assert_same(*found)


@ALL
def test_the_gradient_is_that_of_the_solve_though_data_were_replaced_since(solver):
    found = []
    for replaces in (True, False):
        field, x = tanh_field(), numbers(4, 3).requires_grad_()
        end = odeint(field, x, solver=solver).state
        if replaces:
            for p in field.parameters():
                p.data = numbers(*p.shape, seed=9)
        end.square().sum().backward()
        found.append(gradients_of(field, x))
    assert_same(*found)


@ALL
def test_what_a_closure_depends_on_can_not_be_put_back_and_is_refused(solver):
    weight, x = numbers(3, 3).requires_grad_(), numbers(4, 3)
    end = odeint(lambda t, x: torch.tanh(x @ weight), x, solver=solver, parameters=(weight,)).state
    weight.data = numbers(3, 3, seed=9)
    with pytest.raises(InputError, match=r"of the shape \(3, 3\) .* got another storage .* after the backward pass"):
        end.sum().backward()


@ALL
def test_a_step_of_an_optimizer_before_the_backward_pass_is_refused_as_by_torch(solver):
    field = tanh_field()
    end = odeint(field, numbers(4, 3).requires_grad_(), solver=solver).state
    with torch.no_grad():
        field.layers[0].weight.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        end.sum().backward()


def inner_step(network, weights, x):
    """MAML's: the weights after one step of gradient descent, as a function of those before."""
    loss = torch.func.functional_call(network, weights, x).square().mean()
    slopes = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
    return {name: w - 0.1 * slope for (name, w), slope in zip(weights.items(), slopes, strict=True)}


@ALL
def test_the_gradient_through_an_inner_step_is_exact_or_refused(solver):
    found = []
    for config in (solver, by_backprop(solver)):
        network = seeded(lambda config=config: nn.Sequential(nn.Linear(3, 3), ODEBlock(tanh_field(), config)))
        adapted = dict(network.named_parameters())
        if config.gradient == "reversible":
            with pytest.raises(InputError, match="no second derivatives"):
                inner_step(network, adapted, numbers(4, 3))
            return
        for seed in (3, 4):
            adapted = inner_step(network, adapted, numbers(4, 3, seed=seed))
        x = numbers(4, 3, seed=2).requires_grad_()
        torch.func.functional_call(network, adapted, x).square().sum().backward()
        found.append(gradients_of(network, x))
    assert_same(*found)


@pytest.mark.filterwarnings("ignore:gradient='adjoint' is not the gradient of this solve")
@pytest.mark.parametrize("method", ["euler", "dopri5"])
def test_the_adjoint_computes_with_what_the_forward_pass_had(method):
    found = []
    for replaces in (True, False):
        field, x = tanh_field(), numbers(4, 3).requires_grad_()
        leaves = {name: (0.5 * p).detach().requires_grad_() for name, p in field.named_parameters()}
        network = ODEBlock(field, SolverConfig(method, gradient="adjoint"))
        weights = {f"integrator.vector_field.{name}": leaf for name, leaf in leaves.items()}
        if not replaces:
            network.load_state_dict(weights)
        end = torch.func.functional_call(network, weights if replaces else {}, x)
        end.square().sum().backward()
        found.append({"input": x.grad, **{n: (leaves[n] if replaces else p).grad for n, p in field.named_parameters()}})
    assert_same(*found)


# 2. Buffers


class BatchStatistics(nn.Module):
    """A norm of one's own: torch counts no version of these buffers up."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("var", torch.ones(3))

    def forward(self, x):
        return F.batch_norm(x, self.mean, self.var, training=self.training)


class Counters(nn.Module):
    """Buffers that move with every evaluation, in place and not, and that the output depends on."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long), persistent=False)

    def forward(self, x):
        if self.training:
            self.scale = self.scale * 0.9
            self.seen += 1
        return x * self.scale / (1.0 + 0.1 * self.seen)


MOVING = {
    "spectral norm": lambda: Layers(parametrizations.spectral_norm(nn.Linear(3, 5)), nn.Tanh(), nn.Linear(5, 3)),
    "old spectral norm": lambda: Layers(spectral_norm(nn.Linear(3, 5)), nn.Tanh(), nn.Linear(5, 3)),
    "counters": lambda: Layers(nn.Linear(3, 5), Counters(), nn.Tanh(), nn.Linear(5, 3)),
    "statistics of one's own": lambda: Layers(nn.Linear(3, 3), BatchStatistics(), nn.Tanh(), Counters()),
}


def trained_once(field, solver, *, between=lambda field: None):
    """Gradients after a backward pass, and the field with the buffers that it leaves."""
    x = numbers(4, 3).requires_grad_()
    torch.manual_seed(1)
    end = odeint(field, x, solver=solver).state
    between(field)
    end.square().sum().backward()
    return gradients_of(field, x), field


@ALL
@pytest.mark.filterwarnings("ignore:`torch.nn.utils.spectral_norm` is deprecated")
@pytest.mark.parametrize("name", MOVING)
def test_buffers_that_move_are_found_as_they_were_and_move_once(name, solver):
    found, field = trained_once(seeded(MOVING[name]), solver)
    expected, reference = trained_once(seeded(MOVING[name]), by_backprop(solver))
    assert_same(found, expected, tolerance=1e-5)
    assert_buffers_equal(field, reference)
    assert any(not torch.equal(a, b) for a, b in zip(field.buffers(), seeded(MOVING[name]).buffers(), strict=True))


@ALL
@pytest.mark.parametrize("name", ["spectral norm", "counters"])
def test_another_forward_pass_before_the_backward_pass_changes_nothing(name, solver):
    def another(field):
        with torch.no_grad():
            odeint(field, numbers(4, 3, seed=8), solver=solver)

    found, _ = trained_once(seeded(MOVING[name]), solver, between=another)
    expected, _ = trained_once(seeded(MOVING[name]), by_backprop(solver))
    assert_same(found, expected)


# 3. Modes


def time_field(solver):
    """A field with statistics per time."""
    norms = norm_layer("batch", nodes=evaluation_times(solver), bases=1)
    field = BasicField(3, width=4, norm=norms)
    nn.init.normal_(field.norm2.weight[0])
    return field


def freeze(field):
    for module in field.modules():
        if hasattr(module, "freeze"):
            module.freeze()
    field.requires_grad_(True)


SWITCHES = {
    "eval": lambda field: field.eval(),
    "one module": lambda field: next(m for m in field.modules() if "Norm" in type(m).__name__).eval(),
    "frozen": freeze,
}
NORMED = {
    "statistics per time": lambda solver: time_field(solver),
    "batch norm and dropout": lambda solver: Layers(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.3), nn.Tanh(), nn.Conv2d(4, 3, 3, padding=1)
    ),
}


@ALL
@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize("make", NORMED.values(), ids=NORMED)
def test_the_recomputation_runs_in_the_mode_of_the_forward_pass(make, switch, solver):
    if "Layers" in type(make(solver)).__name__ and solver.method == "dopri5":
        pytest.skip("an adaptive solver finds no steps for a random field")
    found = []
    for config in (solver, by_backprop(solver)):
        field, x = seeded(lambda: make(solver)), numbers(4, 3, 5, 5).requires_grad_()
        torch.manual_seed(1)
        end = odeint(field, x, solver=config).state
        SWITCHES[switch](field)
        modes = [m.training for m in field.modules()]
        end.square().sum().backward()
        assert [m.training for m in field.modules()] == modes
        found.append((gradients_of(field, x), field))
    (gradients, field), (expected, reference) = found
    assert_same(gradients, expected, tolerance=2e-5)
    assert_buffers_equal(field, reference)


@ALL
def test_a_solve_in_evaluation_mode_is_recomputed_so_after_more_training(solver):
    found = []
    for config in (solver, by_backprop(solver)):
        field, x = seeded(lambda: time_field(solver)).eval(), numbers(4, 3, 5, 5).requires_grad_()
        end = odeint(field, x, solver=config).state
        if config is solver:
            field.train()
            odeint(field, numbers(4, 3, 5, 5, seed=5), solver=config)  # moves the statistics
        end.square().sum().backward()
        found.append(gradients_of(field, x))
    assert_same(*found)


# All kinds of state at once


class EveryState(nn.Module):
    """A field with every kind of state that PyTorch's modules have."""

    def __init__(self):
        super().__init__()
        self.first = parametrizations.spectral_norm(nn.Conv2d(3, 4, 3, padding=1))
        self.second = spectral_norm(nn.Conv2d(4, 4, 1))
        self.third = parametrizations.weight_norm(nn.Conv2d(4, 4, 1))
        self.fourth = weight_norm(nn.Conv2d(4, 4, 1))
        self.tied = nn.Conv2d(4, 4, 1, bias=False)
        self.tied.weight = self.fourth.weight_v
        self.last = nn.Conv2d(4, 3, 3, padding=1)
        self.norms = nn.Sequential(
            nn.BatchNorm2d(4), nn.InstanceNorm2d(4, track_running_stats=True), nn.GroupNorm(2, 4)
        )
        self.counters, self.dropout = Counters(), nn.Dropout(0.2)
        self.gains = nn.ParameterList([torch.ones(4, 1, 1), torch.zeros(4, 1, 1)])
        self.offsets = nn.ParameterDict({"a": torch.zeros(4, 1, 1)})
        self.frozen = nn.Parameter(torch.full((4, 1, 1), 0.5), requires_grad=False)
        self.register_parameter("none", None)
        self.register_buffer("constant", torch.linspace(0, 1, 4).reshape(4, 1, 1))
        self.register_buffer("empty", None)
        self.tensor = torch.full((4, 1, 1), 0.3)
        self.last.register_forward_pre_hook(lambda module, inputs: (2.0 * inputs[0],))
        self.last.register_forward_hook(lambda module, inputs, output: 0.5 * output)

    def forward(self, t, x):
        x = self.third(torch.tanh(self.second(torch.tanh(self.first(x)))))
        x = self.norms(self.fourth(x) + self.tied(x)) * (self.gains[0] + t * self.gains[1]) + self.offsets["a"]
        return self.last(self.dropout(self.counters(x * self.frozen + self.constant + self.tensor)))


@ALL
@pytest.mark.filterwarnings("ignore:.*torch.nn.utils.(spectral|weight)_norm.* is deprecated")
def test_a_field_with_every_kind_of_state_has_the_gradients_and_buffers_of_backprop(solver):
    if solver.method == "dopri5":
        pytest.skip("an adaptive solver finds no steps for a random field")
    found = []
    for config in (solver, by_backprop(solver)):
        field, x = seeded(EveryState), numbers(4, 3, 5, 5).requires_grad_()
        torch.manual_seed(1)
        end = odeint(field, x, solver=config).state
        drawn = torch.get_rng_state()
        before = copy.deepcopy(dict(field.named_buffers()))
        end.square().sum().backward()
        assert torch.equal(torch.get_rng_state(), drawn)
        assert all(torch.equal(buffer, before[name]) for name, buffer in field.named_buffers())
        found.append((gradients_of(field, x), field))
    (gradients, field), (expected, reference) = found
    assert_same(gradients, expected, tolerance=2e-5)
    assert_buffers_equal(field, reference)
