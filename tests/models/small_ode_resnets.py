"""ODE-ResNets for the tests, and what they replace."""

import timm
import torch

NAMES = timm.list_models("ode_*", module="ode_resnet")
SMALL = ["ode_resnet18", "ode_resnet50"]
EVALUATIONS = {  # identity blocks of the ResNet, rounded up to midpoint's even numbers
    "ode_resnet18": [2, 2, 2, 2],
    "ode_resnet34": [2, 4, 6, 2],
    "ode_resnet50": [2, 4, 6, 2],
    "ode_resnet101": [2, 4, 22, 2],
    "ode_resnet152": [2, 8, 36, 2],
    "ode_wide_resnet50_2": [2, 4, 6, 2],
    "ode_resnext50_32x4d": [2, 4, 6, 2],
    "ode_seresnet50": [2, 4, 6, 2],
}
COUNTERPARTS = {name: name.removeprefix("ode_") for name in EVALUATIONS}


def images(batch=2, size=64, seed=0, dtype=torch.float32, channels=3):
    return torch.randn(batch, channels, size, size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def create(name="ode_resnet18", **kwargs):
    """A model whose fields are not zero, so that they matter to its output."""
    torch.manual_seed(0)
    return timm.create_model(name, **{"zero_init_last": False, **kwargs})


def create_skeleton(name, **kwargs):
    """A model without storage: for names, shapes and counts."""
    with torch.device("meta"):
        return timm.create_model(name, **kwargs)
