"""Training for several numbers of steps: which passes a batch takes, and what they teach."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from detection.config import DetectionConfig
from detection.model import ModelConfig
from engine.config import AnytimeConfig, budgeted_model
from engine.training.anytime import SELF_DISTILLATION, budget_passes
from engine.training.features import relative_error
from odebackbones.block import ODEBlock, take_budget
from odebackbones.errors import InputError
from odebackbones.ode import SolverConfig


class Decay(nn.Module):
    def __init__(self):
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(1.0))

    def forward(self, t, x):
        return -self.rate * x


def model(budgets=(1, 2, 4)):
    blocks = [ODEBlock(Decay(), SolverConfig("euler", 4), budgets=budgets) for _ in range(2)]
    return nn.Sequential(*blocks).train()


def losses_of(network):
    x = torch.ones(2, 3, 4, 4)
    return lambda: {"loss": network(x).square().mean()}


def euler(steps, blocks=2):
    return (1 - 1 / steps) ** (steps * blocks)


def test_a_batch_takes_one_budget_in_all_blocks():
    network = model()
    found = set()
    for seed in range(20):
        torch.manual_seed(seed)
        [compute] = budget_passes(network, AnytimeConfig([1, 2, 4]), losses_of(network))
        value = compute()["loss"].item()
        [steps] = [steps for steps in (1, 2, 4) if value == pytest.approx(euler(steps) ** 2, rel=1e-5)]
        found.add(steps)
    assert found == {1, 2, 4}
    assert all(block.budget is None for block in network)


def test_the_fullest_solve_teaches_a_cheaper_one():
    network = model()
    config = AnytimeConfig([2, 4], self_distillation=3.0)
    teach, learn = budget_passes(network, config, losses_of(network))
    full, cheap = teach(), learn()
    assert full["loss"].item() == pytest.approx(euler(4) ** 2 / 2, rel=1e-5)
    assert cheap["loss"].item() == pytest.approx(euler(2) ** 2 / 2, rel=1e-5)
    ends = [(torch.tensor(euler(2, blocks)), torch.tensor(euler(4, blocks))) for blocks in (1, 2)]
    error = sum(float(relative_error(*pair)) for pair in ends) / 2
    assert cheap[SELF_DISTILLATION].item() == pytest.approx(3.0 * error, rel=1e-4)
    cheap[SELF_DISTILLATION].backward()  # to the cheaper solve alone
    assert all(block.field.rate.grad != 0 for block in network)


def test_both_solves_of_a_batch_draw_the_same_random_numbers():
    network, drawn = model(), []

    def compute():
        drawn.append(torch.rand(()).item())
        return losses_of(network)()

    for _ in range(2):
        for each in budget_passes(network, AnytimeConfig([2, 4], self_distillation=1.0), compute):
            each()
    assert drawn[0] == drawn[1] != drawn[2] == drawn[3]


def test_the_backbone_gets_the_budgets_and_the_largest_as_its_usual_steps():
    config = DetectionConfig(model=ModelConfig("ode_resnet18"), anytime=AnytimeConfig([1, 4, 2]))
    assert budgeted_model(config).backbone_args == {"steps": 4, "budgets": [1, 4, 2]}
    assert config.model.backbone_args == {}
    own = replace(config, model=ModelConfig("ode_resnet18", {"steps": 8, "budgets": [1, 2]}))
    with pytest.raises(InputError, match="give one of them"):
        budgeted_model(own)
    control = replace(config, model=ModelConfig("ode_resnet18", {"steps": 0}))
    with pytest.raises(InputError, match="leaves no flow to solve"):
        budgeted_model(control)


def test_without_budgets_a_batch_takes_the_models_own_steps():
    network = model(budgets=())
    [compute] = budget_passes(network, AnytimeConfig(), losses_of(network))
    assert compute()["loss"].item() == pytest.approx(euler(4) ** 2, rel=1e-5)


def test_a_number_that_is_no_budget_is_refused():
    with pytest.raises(InputError, match=r"3 steps are not among the budgets \(1, 2, 4\)"), take_budget(model(), 3):
        pass


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"budgets": [2]}, "expected two or more different numbers"),
        ({"budgets": [0, 2]}, "expected numbers of steps of at least 1"),
        ({"self_distillation": 1.0}, "needs anytime.budgets"),
        ({"budgets": [1, 2], "self_distillation": -1.0}, "at least 0"),
    ],
)
def test_settings_that_can_not_be_are_refused(settings, words):
    with pytest.raises(InputError, match=words):
        AnytimeConfig(**settings)
