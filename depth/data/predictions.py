"""Depth maps that some model has predicted, in a folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from odebackbones.errors import InputError, listed

from .depth_files import SUFFIXES, read_depth
from .records import DepthPair

ENDINGS = ("_depth", "")
"""What may stand between an image's name and the file's suffix: ``tools/predict.py`` writes pictures without it."""


def prediction_files(folder: Path, pairs: Sequence[DepthPair]) -> list[Path]:
    """The predictions of the pairs, by their names, or by those of the images if these differ from each other.

    Args:
        folder: With ``NAME.png``, ``NAME.npy``, ...; of two with one name the ``.npy``, which is not rounded.
        pairs: Whose predictions are wanted.

    Raises:
        InputError: There is no such folder, or predictions are missing.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give one with a .npy, or 16-bit .png, for every validation image")
    there = {
        f.stem: f
        for f in sorted(folder.iterdir(), key=lambda f: f.suffix.lower() == ".npy")
        if f.suffix.lower() in SUFFIXES
    }
    uses = Counter(pair.image.stem for pair in pairs)
    found = [
        next((there[name + end] for name in names(pair, uses) for end in ENDINGS if name + end in there), None)
        for pair in pairs
    ]
    if missing := [pair.name for pair, file in zip(pairs, found, strict=True) if file is None]:
        raise InputError(
            f"{folder}: no prediction for {len(missing)} of {len(pairs)} images: {listed(missing)}; "
            f"expected NAME.npy or NAME.png"
        )
    return [file for file in found if file is not None]


def names(pair: DepthPair, uses: Counter[str]) -> tuple[str, ...]:
    """What a pair's prediction may be called."""
    return (pair.name, pair.image.stem) if uses[pair.image.stem] == 1 else (pair.name,)


def read_prediction(path: Path, *, unit: str) -> Tensor:
    """A predicted depth map ``(H, W)`` [m].

    Raises:
        InputError: It can't be read, or has pixels without a depth.
    """
    depth = torch.from_numpy(read_depth(path, unit=unit))
    if not (depth > 0).all():
        raise InputError(f"{path}: {int((depth <= 0).sum())} pixels have no depth above 0; a prediction needs all")
    return depth
