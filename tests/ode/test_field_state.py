"""Recomputations find the tensors that the forward pass had, whatever a backward pass finds by then."""

import pytest
import torch
from fields_with_state import ALL, assert_same, by_backprop, gradients_of, numbers, seeded, tanh_field, time_field
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from odebackbones.block import ODEBlock
from odebackbones.errors import InputError
from odebackbones.ode import SolverConfig, odeint


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
        weights = {f"field.{name}": leaf for name, leaf in leaves.items()}
        if not replaces:
            network.load_state_dict(weights)
        end = torch.func.functional_call(network, weights if replaces else {}, x)
        end.square().sum().backward()
        found.append({"input": x.grad, **{n: (leaves[n] if replaces else p).grad for n, p in field.named_parameters()}})
    assert_same(*found)


class ListField(nn.Module):
    """A field that keeps tensors with a graph where modules keep no parameters."""

    def __init__(self, kind):
        super().__init__()
        self.weights = numbers(2, 3, 3).requires_grad_()
        tensors = [weight.sin() for weight in self.weights]
        if kind == "buffer":
            self.register_buffer("kept", torch.stack(tensors))
        else:
            self.kept = {"list": tensors, "dictionary": dict(enumerate(tensors)), "tuple": tuple(tensors)}[kind]

    def forward(self, t, x):
        return torch.tanh(x @ self.kept[0]) @ self.kept[1]


@ALL
@pytest.mark.parametrize("kind", ["buffer", "list", "dictionary"])
def test_tensors_with_a_graph_get_their_gradients_wherever_a_module_keeps_them(kind, solver):
    found = []
    for config in (solver, by_backprop(solver)):
        field, x = ListField(kind), numbers(4, 3).requires_grad_()
        odeint(field, x, solver=config).state.square().sum().backward()
        found.append({"input": x.grad, "weights": field.weights.grad})
    assert_same(*found)


def test_a_tuple_of_tensors_with_a_graph_is_refused():
    end = odeint(ListField("list"), numbers(4, 3), solver=SolverConfig("euler", 2)).state
    assert end.requires_grad
    with pytest.raises(InputError, match=r"ListField\.kept is a tuple with tensors that want a gradient.*in a list"):
        odeint(ListField("tuple"), numbers(4, 3), solver=SolverConfig("euler", 2))


@pytest.mark.parametrize("gradient", ["checkpoint", "backprop"])
def test_second_derivatives_count_a_tensor_once_that_made_the_state_too(gradient):
    found = []
    for config in (SolverConfig("midpoint", 5, gradient), SolverConfig("midpoint", 5, "backprop", checkpoints="every")):
        weight, x = (0.5 * numbers(3, 3)).requires_grad_(), numbers(4, 3, seed=1)

        def closure(t, x, weight=weight):
            return torch.tanh(x @ weight)

        end = odeint(closure, x @ weight, solver=config, parameters=(weight,)).state
        (slope,) = torch.autograd.grad(end.square().sum(), weight, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.square().sum(), weight)
        found.append({"first": slope.detach(), "second": curvature})
    assert_same(*found)
