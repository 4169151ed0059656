"""The table of the models: every one of ours stands in it, and its numbers are what other tools count."""

import pytest
import timm

from odebackbones.engine.profile import count_parameters
from tools.zoo_benchmark.models import GROUPS, measure

OURS = {name for name in timm.list_models() if timm.models.model_entrypoint(name).__module__.startswith("odebackbones")}


def test_every_model_of_ours_stands_in_a_group():
    assert {"ode_resnet101", "ode_vgg16_bn", "odenet_cifar", "rev_resnet50", "ode_resnet56_cifar"} <= OURS
    assert OURS - {body.name for group in GROUPS for body in group.values()} == set()


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
