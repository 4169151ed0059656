"""Weights from before 0.2.0, whose ODE blocks had the field inside their solver."""

import copy

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from engine.weights.checkpoint import load_checkpoint, save_checkpoint
from engine.weights.pretrained import read_weights
from odebackbones import ODEBlock
from odebackbones.ode import SolverConfig
from odebackbones.old_names import current_names

MODELS = {"ode_resnet18": {"steps": 2}, "lm_resnet50": {}, "odenet_cifar": {}}


def old(weights):
    """The names that version 0.1.0 wrote."""
    return {
        name.replace(".field.", ".integrator.vector_field.").replace(".method.coeff", ".integrator.coeff"): value
        for name, value in weights.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_old_weights_are_loaded_by_their_new_names(name):
    torch.manual_seed(0)
    model = timm.create_model(name, **MODELS[name])
    other = timm.create_model(name, **MODELS[name])
    weights = model.state_dict()
    before = old(weights)
    assert before.keys() != weights.keys() and current_names(before).keys() == weights.keys()
    other.load_state_dict(before)
    for key, value in other.state_dict().items():
        assert torch.equal(value, weights[key]), key
    assert any("integrator" in key for key in before)  # what the caller has stays as it was


def test_a_block_alone_and_a_copy_of_it_load_old_weights():
    block = ODEBlock(nn.Linear(2, 2), SolverConfig("lm", 3))
    twin = copy.deepcopy(block)
    weights = {"integrator.vector_field.weight": torch.ones(2, 2), "integrator.vector_field.bias": torch.ones(2)}
    twin.load_state_dict(weights | {"integrator.coefficients": torch.tensor([0.1, 0.2, 0.3])})
    assert torch.equal(twin.field.weight, torch.ones(2, 2)) and not torch.equal(block.field.weight, twin.field.weight)
    assert twin.state_dict().keys() == {"method.coefficients", "field.weight", "field.bias"}


def test_what_is_missing_in_old_weights_is_told_by_its_new_name():
    block = ODEBlock(nn.Linear(2, 2), SolverConfig())
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "field.bias"'):
        block.load_state_dict({"integrator.vector_field.weight": torch.ones(2, 2)})


def test_names_of_other_modules_stay():
    assert current_names({"my_integrator.vector_field.w": 1, "a.integrator.gain": 2}).keys() == {
        "my_integrator.vector_field.w",
        "a.integrator.gain",
    }


def test_files_of_before_are_read_by_the_new_names(tmp_path):
    weights = old(timm.create_model("odenet_cifar").state_dict())
    save_checkpoint(tmp_path / "last.pt", task="classification", model=weights, ema=None)
    assert current_names(weights).keys() == load_checkpoint(tmp_path / "last.pt")["model"].keys()
    save_file(weights, tmp_path / "weights.safetensors")
    found, _ = read_weights(str(tmp_path / "weights.safetensors"), setting="--checkpoint")
    assert found.keys() == current_names(weights).keys()
