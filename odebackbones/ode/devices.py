"""Floating-point types that a device can compute with."""

import torch

from odebackbones.errors import InputError

WITHOUT_FLOAT64 = ("mps",)
"""Types of devices without float64."""


def time_dtype(device: torch.device) -> torch.dtype:
    """The dtype of times: float64 where the device has it."""
    return torch.float32 if device.type in WITHOUT_FLOAT64 else torch.float64


def require_float64(device: torch.device, *, what: str) -> None:
    """Refuse a float64 computation on a device without float64.

    Raises:
        InputError: The device has no float64.
    """
    if device.type in WITHOUT_FLOAT64:
        raise InputError(f"{what} computes in float64, which {device.type!r} devices lack: take gradient='checkpoint'")
