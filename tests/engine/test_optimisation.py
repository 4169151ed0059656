"""The precision of the forward pass: the config's, where the device has it."""

import pytest
import torch

from engine.config import OptimConfig
from engine.training import optimization
from engine.training.optimization import autocast, precision

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_a_cpu_without_bfloat16_computes_in_float32(monkeypatch):
    config, x = OptimConfig(amp="bfloat16"), torch.ones(2, 2)
    for supported, name, dtype in ((True, "bfloat16", torch.bfloat16), (False, "float32", torch.float32)):
        monkeypatch.setattr(optimization, "cpu_has_bfloat16", lambda supported=supported: supported)
        assert precision(CPU, config) == name
        with autocast(CPU, config):
            assert (x @ x).dtype == dtype


@pytest.mark.parametrize(("amp", "expected"), [("none", "float32"), ("bfloat16", "bfloat16"), ("float16", "float16")])
def test_a_gpu_computes_as_the_config_says(amp, expected):
    assert precision(GPU, OptimConfig(amp=amp)) == expected
