"""ODE-ResNets under every solver, and the options that go to the solver, the blocks and the fields."""

import pytest
import timm
import torch

from odebackbones import InputError, SolverError, solver_stats
from odebackbones.block import ODEBlock
from odebackbones.fields.conv import TimeConv2d
from odebackbones.ode import METHODS, SolverConfig

LAYERS = (2, 3, 5, 2)
"""Blocks a stage; the first one of each is discrete."""


def images(batch=2, size=32):
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))


def create(**kwargs):
    torch.manual_seed(0)
    small = {"layers": LAYERS, "channels": (4, 4, 8, 8), "num_classes": 3, "zero_init_last": False}
    return timm.create_model("ode_resnet18", **(small | kwargs))


def blocks(model):
    return [module for module in model.modules() if isinstance(module, ODEBlock)]


def extras(method):
    return {"rtol": 1e-2, "atol": 1e-2} if METHODS[method].build is None else {}


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_solver_trains_every_parameter(method):
    degree = 1 if method == "implicit_euler" else None  # a branch of random weights is no contraction
    model = create(solver=method, degree=degree, **extras(method)).train()
    model(images()).square().sum().backward()
    unused = {f"layer{i}.1.method.coefficients" for i in (1, 4)}  # lm has no earlier state in its one step there
    found = {name for name, p in model.named_parameters() if p.grad is None or p.grad.abs().max() == 0}
    assert found <= unused
    assert all(stats.nfe >= blocks - 1 for stats, blocks in zip(solver_stats(model).values(), LAYERS, strict=True))
    assert model.eval()(images()).isfinite().all()


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.build])
def test_the_default_steps_are_the_fewest_that_evaluate_as_often_as_there_were_blocks(method):
    degree = 3 if method == "implicit_euler" else None
    model = create(solver=method, degree=degree)
    for block, count in zip(blocks(model), LAYERS, strict=True):
        assert block.stats().nfe >= count - 1
        if block.solver.steps > 1:
            fewer = create(solver=method, degree=degree, steps=block.solver.steps - 1)
            assert blocks(fewer)[0].stats().nfe < count - 1


def test_the_fields_of_the_solver_are_arguments_of_the_model():
    options = {"checkpoints": "sqrt", "max_nfe": 40, "check_finite": False}
    model = create(solver="heun", steps=(1, 2, 3, 4), **options)
    expected = [SolverConfig("heun", steps, **options) for steps in (1, 2, 3, 4)]
    assert [block.solver for block in blocks(model)] == expected
    options = {"rtol": 1e-5, "atol": 1e-6}
    model = create(solver="dopri5", nodes=(1, 2, 3, 4), **options)
    expected = [SolverConfig("dopri5", nodes=nodes, **options) for nodes in (1, 2, 3, 4)]
    assert [block.solver for block in blocks(model)] == expected


def test_an_option_that_the_solver_ignores_is_refused():
    with pytest.raises(InputError, match=r"steps=2: solver 'dopri5' has no such option"):
        create(solver="dopri5", steps=2)


def test_lists_as_yaml_has_them_become_tuples():
    model = create(solver="euler", grid=[0.25, 0.5, 1.0], budgets=[])
    assert blocks(model)[0].solver.grid == (0.25, 0.5, 1.0)
    assert blocks(create(budgets=[1, 2]))[0].budgets == (1, 2)


def test_the_options_of_the_blocks_and_the_fields_arrive():
    model = create(augment=2, budgets=(1, 2), steer=0.2, time_channel=True)
    for block in blocks(model):
        assert (block.augment, block.budgets, block.steer) == (2, (1, 2), 0.2)
        convs = [module for module in block.modules() if isinstance(module, TimeConv2d)]
        assert all(len(conv.time_weight) == 1 for conv in convs)
    assert blocks(model)[0].field.conv1.weight[0].shape[1] == 4 + 2
    model.train()(images()).sum().backward()


def test_a_stage_that_explodes_is_named():
    model = create(norm="group", channels=(32, 32, 32, 32))
    with torch.no_grad():
        blocks(model)[2].field.norm2.weight[0].fill_(float("inf"))
    with pytest.raises(SolverError, match=r"layer3: .* after step 1 of 2"):
        model(images())


def test_a_budget_of_evaluations_names_the_stage_that_exceeds_it():
    model = create(solver="dopri5", rtol=1e-7, atol=1e-7, max_nfe=20).eval()
    with pytest.raises(SolverError, match=r"layer1: max_nfe=20"):
        model(images())


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"solver": "leapfrg", "gradient": "reversible"}, "leapfrog"),
        ({"gradient": "reversible"}, "leapfrog, alf, reversible_heun"),
        ({"solver": "ralston", "gradient": "adjoint"}, "euler, midpoint"),
        ({"checkpoints": "squrt"}, "sqrt"),
        ({"state_dtype": "int64", "solver": "alf"}, "int32"),
        ({"max_nfe": 3, "solver": "rk4", "steps": 1}, "max_nfe=3"),
        ({"budgets": (1, 2), "solver": "lm"}, "lm"),
    ],
)
def test_impossible_options_are_refused_with_those_that_work(kwargs, words):
    with pytest.raises(InputError, match=words):
        create(**kwargs)
