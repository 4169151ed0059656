"""Test of whether a CPU computes in bfloat16, or only emulates it at a fraction of float32's speed."""

import time
from functools import cache

import torch
import torch.nn.functional as F

UNITS = ("avx512_bf16", "amx_bf16", "amx_tile", "arm_bf16", "bf16")
"""bfloat16 instructions, by their names in :func:`torch.cpu.get_capabilities`."""

ROUNDS = 3


@cache
def cpu_has_bfloat16() -> bool:
    """Whether this CPU has instructions for bfloat16; if PyTorch does not tell, whether a convolution is faster in it.

    ``torch.ops.mkldnn._is_mkldnn_bf16_supported`` is true on every CPU with AVX-512, where oneDNN can emulate them.
    """
    told = instructions()
    return bfloat16_speedup() > 1.0 if told is None else told


def instructions() -> bool | None:
    """Whether PyTorch reports bfloat16 instructions on this CPU; None if it does not tell."""
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    if any(name in capabilities for name in UNITS):
        return any(capabilities.get(name) for name in UNITS)
    asked = [getattr(torch.cpu, f"_is_{name}_supported", None) for name in UNITS]
    known = [question for question in asked if question is not None]
    return any(question() for question in known) if known else None


def bfloat16_speedup() -> float:
    """Return the time of a convolution in float32 over its time in bfloat16, each the minimum of rounds in turn."""
    x, weight = torch.randn(4, 64, 56, 56), torch.randn(64, 64, 3, 3)
    pairs = {dtype: (x.to(dtype), weight.to(dtype)) for dtype in (torch.float32, torch.bfloat16)}
    least = dict.fromkeys(pairs, float("inf"))
    with torch.no_grad():
        for _ in range(1 + ROUNDS):  # the first warms up, and is the slowest
            for dtype, (image, kernel) in pairs.items():
                start = time.perf_counter()
                F.conv2d(image, kernel, padding=1)
                least[dtype] = min(least[dtype], time.perf_counter() - start)
    return least[torch.float32] / least[torch.bfloat16]
