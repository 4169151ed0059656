"""bfloat16 on CPUs: instructions where PyTorch tells them, else a timing, which is the witness of both."""

import pytest
import torch

from engine.training import cpu_precision
from engine.training.cpu_precision import bfloat16_speedup, cpu_has_bfloat16, instructions


@pytest.mark.slow
def test_what_is_said_of_this_cpu_is_what_a_timing_says():
    speedup = max(bfloat16_speedup(), bfloat16_speedup()) if instructions() else bfloat16_speedup()
    assert cpu_has_bfloat16() == (speedup > 1.0), f"bfloat16 is {speedup:.2f} times as fast as float32"


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_f": True, "avx512_vnni": True, "avx512_bf16": False, "amx_bf16": False}, False),  # emulated
        ({"avx512_f": True, "avx512_bf16": True, "amx_bf16": False}, True),
        ({"avx512_bf16": False, "amx_bf16": True}, True),
        ({"avx2": True, "avx512_bf16": False}, False),
        ({"arm_bf16": True}, True),
    ],
    ids=str,
)
def test_instructions_are_asked_for_and_not_what_onednn_can_emulate(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert instructions() is expected


@pytest.mark.parametrize(("speedup", "expected"), [(0.4, False), (1.7, True)])
def test_where_pytorch_does_not_tell_a_timing_does(monkeypatch, speedup, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
    for name in cpu_precision.UNITS:
        monkeypatch.delattr(torch.cpu, f"_is_{name}_supported", raising=False)
    monkeypatch.setattr(cpu_precision, "bfloat16_speedup", lambda: speedup)
    assert instructions() is None
    assert cpu_has_bfloat16.__wrapped__() is expected
