"""The study of a trained trunk: probes against closed cases, motion against plain computations, and its report."""

import json
from itertools import pairwise, product

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from benchmarks.zoo import trunk
from benchmarks.zoo.motion import COLUMNS, kernels, lipschitz, motion_table, weight_cosine, weight_cosines
from benchmarks.zoo.probes import probe_accuracies
from odebackbones import InputError, fit_bases, from_resnet
from odebackbones.block import ode_blocks
from tools import benchmark


def test_probes_find_separate_classes_and_guess_noise():
    torch.manual_seed(0)
    labels = torch.arange(4).repeat(25)
    centers = 5 * torch.randn(4, 30)
    features, tests = (centers[labels] + torch.randn(100, 30) for _ in range(2))
    found = probe_accuracies(features, labels, tests, labels)
    assert set(found) == {"nearest class mean", "5 nearest neighbours", "linear probe"}
    assert set(found.values()) == {100.0}
    noise = probe_accuracies(torch.randn(100, 30), labels, torch.randn(100, 30), labels)
    assert all(value < 50 for value in noise.values())


@pytest.fixture
def flow():
    torch.manual_seed(0)
    resnet = timm.create_model("resnet18", layers=(1, 1, 4, 1), channels=(8, 8, 8, 8), zero_init_last=False).eval()
    return resnet, ode_blocks(from_resnet(resnet))[-1]


def test_the_motion_is_that_of_the_residual_blocks(flow):
    resnet, block = flow
    states = torch.rand(6, 8, 5, 7)
    table = motion_table(block, states)
    assert table.columns == COLUMNS and len(table.rows) == 3
    x = states
    with torch.no_grad():
        for row, residual in zip(table.rows, resnet.layer3[1:], strict=True):
            y = residual(x)
            assert row[1] == pytest.approx(float(x.flatten(1).norm(dim=1).mean()), rel=1e-4)
            ratio = (y - x).flatten(1).norm(dim=1) / x.flatten(1).norm(dim=1)
            assert row[2] == pytest.approx(float(ratio.mean()), rel=1e-3)
            x = y


def test_the_lipschitz_estimate_is_the_jacobians_norm(flow):
    _, block = flow
    states = torch.rand(1, 8, 3, 3)

    def branch(x):
        return block.field(0.0, x.reshape(1, 8, 3, 3)).flatten() / 3

    exact = torch.linalg.matrix_norm(torch.func.jacrev(branch)(states.flatten()), 2)
    assert lipschitz(block, 0, states) == pytest.approx(float(exact.detach()), rel=0.02)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_aligned_weights_are_equal_whatever_their_hidden_channels_order(name):
    torch.manual_seed(0)
    resnet = timm.create_model(name, layers=(1, 1, 3, 1), channels=(8, 8, 8, 8)).eval()
    first, second = resnet.layer3[1:]
    second.load_state_dict(first.state_dict())
    order, convolutions = torch.randperm(8), [m for m in second.modules() if isinstance(m, torch.nn.Conv2d)]
    with torch.no_grad():
        for before, after in pairwise(convolutions):
            before.weight.copy_(before.weight[order])
            after.weight.copy_(after.weight[:, order])
    block = ode_blocks(from_resnet(resnet))[-1]
    a, b = kernels(block, 0), kernels(block, 1)
    assert weight_cosine(a, b) < 0.7
    assert weight_cosine(a, b, align=True) == pytest.approx(1.0, abs=1e-5)
    plain, aligned, random = weight_cosines(block, 1)
    assert plain == weight_cosine(a, b) and aligned == pytest.approx(1.0, abs=1e-5) and 0 < random < 0.7


def test_distillation_brings_a_flow_closer_to_the_states_that_it_is_taught(flow):
    _, block = flow
    states = torch.rand(60, 8, 5, 7)
    student = fit_bases(nn.Sequential(block), 1, states, steps=1)

    def error():
        with torch.no_grad():
            return float((student(states) - block(states)).square().mean())

    before = error()
    trunk.distill_states(student, block, states)
    assert error() < 0.98 * before


@pytest.fixture
def trained(tmp_path):
    """The trunk of a ResNet, and a few images of noise of two classes."""
    torch.manual_seed(0)
    model = timm.create_model("caffe_resnet50", features_only=True, out_indices=(3,), zero_init_last=False)
    save_file(model.state_dict(), tmp_path / "trunk.safetensors")
    for split, name in product(("train", "val"), "ab"):
        folder = tmp_path / split / name
        folder.mkdir(parents=True)
        for i in range(52 if split == "train" else 3):
            Image.fromarray(np.random.default_rng(i).integers(0, 256, (32, 32, 3), np.uint8)).save(folder / f"{i}.png")
    return tmp_path


@pytest.mark.slow
def test_a_trunk_is_studied(trained, capsys, monkeypatch):
    monkeypatch.setattr(trunk, "SIZE", 32)
    monkeypatch.setattr(trunk, "EPOCHS", 3)
    benchmark.main(["trunk", "--model=caffe_resnet50", f"--checkpoint={trained / 'trunk.safetensors'}",
                    f"--data={trained}", f"--out={trained}"])  # fmt: skip
    steps, bases, distilled, motion = json.loads((trained / "report.json").read_text())["tables"]
    assert [row[:2] for row in steps["rows"][:2]] == [["trained", None], ["calibrated", None]]
    assert ["euler", 10] in [row[:2] for row in steps["rows"]]
    rows = {row[0]: row[1:] for row in bases["rows"]}
    assert rows["K = 5, converted"][-1] == 0 < rows["K = 1, fitted, 5 steps"][-1]
    assert rows["without the flow"][0] == 0 < rows["K = 1, fitted, 1 steps"][0] < rows["K = 5, converted"][0]
    trained = {row[0]: row[1:] for row in distilled["rows"]}
    assert set(trained) == {f"K = {k}, fitted, {k} steps, distilled" for k in (1, 2)}
    assert len(motion["rows"]) == 5
    assert "holds: difference of the converted stage" in capsys.readouterr().out


def test_a_trunk_without_weights_is_refused():
    with pytest.raises(InputError, match="trunk: give --data FOLDER"):
        benchmark.main(["trunk", "--model=caffe_resnet50"])
