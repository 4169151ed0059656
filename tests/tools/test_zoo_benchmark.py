"""The tables of the models and of converted ones: what stands in them, and that it is what other tools count."""

import json
import shutil
from itertools import product

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from benchmarks.zoo import conversion
from benchmarks.zoo.models import FAMILIES, measure
from engine.measure.profile import count_parameters
from odebackbones import InputError
from tools import benchmark

GROUPS = [group for groups in FAMILIES.values() for group in groups]
OURS = {name for name in timm.list_models() if timm.models.model_entrypoint(name).__module__.startswith("odebackbones")}


def test_every_model_of_ours_stands_in_a_group():
    assert {"ode_resnet101", "ode_vgg16_bn", "odenet_cifar", "rev_resnet50", "ode_resnet56_cifar"} <= OURS
    assert OURS - {body.name for group in GROUPS for body in group.values()} == set()


@pytest.mark.slow
def test_a_group_is_measured():
    group = next(group for group in GROUPS if "ode_resnet56_cifar" in group)
    table = measure(group, rounds=1)
    rows = {row[0]: row[1:] for row in table.rows}
    assert list(rows) == list(group)
    resnet, ode = rows["resnet56_cifar"], rows["ode_resnet56_cifar"]
    assert resnet[0] == count_parameters(group["resnet56_cifar"].build()) / 1e6
    # 52 convolutions from C to C channels on 1024, 256 or 64 pixels, 2 from C to 2 C, and the first one
    assert resnet[1] == pytest.approx((52 * 9 * 16**2 * 1024 + 2 * 9 * 16 * 32 * 256 + 9 * 3 * 16 * 1024) / 1e9)
    assert (resnet[2], ode[2]) == ("-", "8 8 8")
    assert resnet[3] == resnet[5] == 1.0 > ode[5] > 0.0
    assert ode[0] < 0.25 * resnet[0] and ode[1] == pytest.approx(resnet[1], rel=0.01)


@pytest.fixture
def trained(tmp_path):
    """Weights of a ResNet-20 for 10 classes, and a few images of noise of each."""
    torch.manual_seed(0)
    model = timm.create_model("resnet20_cifar", zero_init_last=False)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    for split, name in product(("train", "test"), "abcdefghij"):
        folder = tmp_path / split / name
        folder.mkdir(parents=True)
        for i in range(2):
            Image.fromarray(np.random.default_rng(i).integers(0, 256, (32, 32, 3), np.uint8)).save(folder / f"{i}.png")
    return tmp_path


@pytest.mark.slow
def test_a_conversion_is_measured(trained, capsys):
    benchmark.main(["conversion", f"--data={trained}", f"--checkpoint={trained / 'weights.pth'}", f"--out={trained}",
                    "--model=resnet20_cifar"])  # fmt: skip
    report = json.loads((trained / "report.json").read_text())
    bases, steps = report["tables"]
    rows = {row[0]: row[1:] for row in bases["rows"]}
    assert rows["the ResNet"][0] == rows["K = 2 2 2"][0] == 269_722 and rows["the ResNet"][1] == 0
    assert rows["K = 2 2 2"][1:] == [6, rows["the ResNet"][2], pytest.approx(0.0, abs=1e-4)]
    assert rows["K = 1 1 1, projected, constant"][0] == 172_506
    assert rows["K = 1 1 1, fitted, steps 1 1 1"][:2] == [172_506, 3]
    errors = [rows[f"K = 1 1 1, {how}"][-1] for how in ("fitted, steps 2 2 2", "projected, constant")]
    assert errors[0] < errors[1] > 1e-3
    others = [(method, n) for method in ("euler", "midpoint") for n in (1, 2, 3, 4)]
    assert [tuple(row[:2]) for row in steps["rows"]] == [("trained", None), ("calibrated", None), *others]
    assert "holds: largest difference of the converted model's logits" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give --data FOLDER"),
        (["--data=none"], "none/test: no such folder"),
        (["--data={}/train"], "train/test: no such folder"),
        (["--data={}", "--parts=base"], "unknown part 'base'; did you mean 'bases'"),
    ],
)
def test_a_conversion_without_its_data_is_refused(trained, arguments, words):
    checkpoint = [f"--checkpoint={trained / 'weights.pth'}", "--model=resnet20_cifar"]
    with pytest.raises(InputError, match=words):
        benchmark.main(["conversion", *(a.format(trained) for a in arguments), *(checkpoint if arguments else [])])


def test_data_of_other_classes_are_refused(trained):
    (trained / "test" / "k").mkdir()
    shutil.copy(trained / "test" / "a" / "0.png", trained / "test" / "k" / "0.png")
    with pytest.raises(InputError, match=r"test has 11 classes, the model 10"):
        conversion.parts(timm.create_model("resnet20_cifar"), trained)
