"""Models saved with the solver that they have; the witness is timm, which loads them."""

import json

import pytest
import timm
import torch
from torch import nn

import odebackbones
from odebackbones import (
    InputError,
    change_bases,
    change_solver,
    from_resnet,
    fuse,
    save_pretrained,
    set_gradient,
    to_resnet,
)

SMALL = {"channels": [8, 16, 24, 32], "num_classes": 5}
CHANGES = {
    "as built": lambda: ode("ode_resnet18", solver="heun", steps=[1, 2, 1, 3], norm="group", channels=[32] * 4),
    "another solver": lambda: change_solver(ode("ode_resnet18"), "rk4", steps=3),
    "the default in place of another": lambda: change_solver(ode("ode_resnet18", checkpoints=2), checkpoints="every"),
    "an uneven grid": lambda: change_solver(ode("ode_resnet18"), "midpoint", grid=(0.2, 1.0)),
    "other bases": lambda: change_bases(ode("ode_resnet18", steps=4), [4, 3, 2, 1], basis="linear"),
    "some stages": lambda: ode("ode_resnet34", continuous=[False, True, False, True]),
    "converted": lambda: from_resnet(ode("resnet34")),
    "converted and projected": lambda: change_bases(from_resnet(ode("resnet34")), [2, 2, 3, 1]),
    "projected but for the norms": lambda: change_bases(from_resnet(ode("resnet34")), 1, norm_bases=[2, 3, 5, 2]),
    "there and back": lambda: to_resnet(change_solver(from_resnet(ode("resnet34")), steps=3)),
    "CIFAR's": lambda: change_bases(from_resnet(timm.create_model("resnet20_cifar", num_classes=3)), 1),
    "CIFAR's, plain": lambda: to_resnet(from_resnet(timm.create_model("resnet32_cifar"))),
    "Chen et al.'s": lambda: timm.create_model("odenet_cifar", solver="dopri5", rtol=1e-2, num_classes=7),
    "of two steps": lambda: ode("lm_resnet50"),
    "augmented": lambda: ode("augmented_ode_resnet50", augment=8),
    "a timm model": lambda: timm.create_model("resnet18", num_classes=3),
}


def ode(name, **kwargs):
    return timm.create_model(name, **{**SMALL, "zero_init_last": False, **kwargs})


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGES)
def test_timm_loads_what_was_saved(name, tmp_path):
    torch.manual_seed(0)
    model = CHANGES[name]().eval()
    folder = save_pretrained(model, tmp_path / "model")
    assert sorted(file.name for file in folder.iterdir()) == ["config.json", "model.safetensors"]
    loaded = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(loaded(x), model(x))
    assert odebackbones.solver_stats(loaded) == odebackbones.solver_stats(model)


def test_saving_replaces_an_older_model(tmp_path):
    for classes in (3, 4):
        save_pretrained(timm.create_model("resnet20_cifar", num_classes=classes), tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["num_classes"] == 4
    assert timm.create_model(f"local-dir:{tmp_path}", pretrained=True).num_classes == 4


def of_degree_three(model):
    return change_solver(model, degree=3)


def by_euler(model):
    return change_solver(model, "euler", gradient="checkpoint")


def checkpointed(model):
    set_gradient(model, "checkpoint")
    return model


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("ode_resnet18", by_euler),
        ("rev_resnet50", checkpointed),
        ("rev_resnet50", by_euler),
        ("poly_resnet50", of_degree_three),
    ],
)
def test_the_solver_is_saved_also_where_it_is_a_default_that_the_architecture_has_not(name, change, tmp_path):
    model = change(ode(name))
    loaded = timm.create_model(f"local-dir:{save_pretrained(model, tmp_path)}", pretrained=True)
    assert [b.solver for b in odebackbones.ode_blocks(loaded)] == [b.solver for b in odebackbones.ode_blocks(model)]


def test_what_changed_since_the_model_was_built_is_saved(tmp_path):
    model = ode("ode_resnet18", budgets=[1, 2], steer=0.1, norm="group", channels=[32] * 4)
    model.reset_classifier(9)
    model = change_solver(model, steps=3)
    loaded = timm.create_model(f"local-dir:{save_pretrained(model, tmp_path)}", pretrained=True)
    assert loaded.num_classes == 9
    assert {(block.budgets, block.steer) for block in odebackbones.ode_blocks(loaded)} == {((), 0.1)}


def test_a_plain_model_made_of_one_with_all_options_is_saved(tmp_path):
    model = ode("ode_resnet18", solver="euler", projected=True, recompute=True, time_channel=False, steer=0.1)
    plain = to_resnet(model)
    loaded = timm.create_model(f"local-dir:{save_pretrained(plain, tmp_path)}", pretrained=True).eval()
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(loaded(x), plain.eval()(x))


def test_the_duration_that_is_saved_is_that_of_the_blocks(tmp_path):
    part = {"duration": 2.0, "solver": "euler", "projected": True, "continuous": (False, False, False, True)}
    model = from_resnet(ode("ode_resnet34", **part)).eval()  # the new blocks have theirs in the norms
    x = torch.randn(1, 3, 64, 64)
    for i, saved in enumerate((model, ode("ode_resnet18", duration=3).eval())):
        loaded = timm.create_model(f"local-dir:{save_pretrained(saved, tmp_path / str(i))}", pretrained=True).eval()
        torch.testing.assert_close(loaded(x), saved(x))


def mixed():
    model = ode("ode_resnet18")
    model.layer2[1].set_solver(odebackbones.ode.SolverConfig("heun", 1))
    return model


def widened():
    model = ode("ode_resnet18")
    model.layer1.append(nn.Conv2d(8, 8, 1))
    return model


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (mixed, r"solver of the ODE blocks is \['midpoint', 'heun', .*: a saved model has one for all"),
        (widened, r"timm.create_model\('ode_resnet18', ...\) has other weights than this model, first layer1\.2\.bias"),
        (lambda: nn.Sequential(nn.ReLU()), "Sequential '': timm has no such model"),
        (lambda: nn.Sequential(ode("ode_resnet18")), "Sequential '': timm has no such model"),
        (lambda: ode("ode_resnet18", features_only=True, num_classes=None), "FeatureListNet: save the whole model"),
        (lambda: fuse(ode("ode_resnet18")), "layer1: FusedField has no weights over time"),
        (lambda: to_resnet(ode("ode_resnet18", solver="euler")), "ResNet '': timm has no such model"),
    ],
)
def test_a_model_that_timm_could_not_build_is_refused(model, words, tmp_path):
    with pytest.raises(InputError, match=words):
        save_pretrained(model(), tmp_path / "model")
    assert not (tmp_path / "model").exists()
