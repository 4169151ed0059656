"""Depth maps that some model has predicted, in a folder."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from depth.data.depth_files import SUFFIXES, read_depth
from depth.data.records import DepthPair
from depth.data.units import Unit
from odebackbones.errors import InputError, join_names

ANCESTORS = 3
"""Folders above an image's own whose names may stand before its name: BTS writes ``DRIVE_FRAME.png`` for KITTI."""

ENDINGS = ("_depth", "")
"""What may stand between an image's name and the file's suffix: ``tools/predict.py`` writes pictures without it."""


def prediction_files(folder: Path, pairs: Sequence[DepthPair]) -> list[Path]:
    """Find the predictions of the pairs by their names, by their images' names, or by a folder's and the image's.

    Names other than the pairs' own count only if no two images share them.

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
    uses = Counter(name for pair in pairs for name in {pair.name, *other_names(pair)})
    found = [
        next((there[name + end] for name in names(pair, uses) for end in ENDINGS if name + end in there), None)
        for pair in pairs
    ]
    if missing := [pair.name for pair, file in zip(pairs, found, strict=True) if file is None]:
        raise InputError(
            f"{folder}: no prediction for {len(missing)} of {len(pairs)} images: {join_names(missing)}; "
            f"expected NAME.npy or NAME.png"
        )
    return [file for file in found if file is not None]


def names(pair: DepthPair, uses: Counter[str]) -> tuple[str, ...]:
    """What a pair's prediction may be called."""
    return (pair.name, *(name for name in other_names(pair) if uses[name] == 1))


def other_names(pair: DepthPair) -> set[str]:
    """The image's name, alone and after the name of one of the folders above it."""
    image = pair.image
    folders = [folder.name for folder in list(image.parents)[: 1 + ANCESTORS]]
    return {image.stem, *(f"{folder}_{image.stem}" for folder in folders)} - {pair.name}


def require_all(prediction: Tensor, counted: Tensor, file: Path) -> None:
    """Refuse a prediction that has no depth at pixels that count.

    Args:
        prediction: ``(H, W)`` [m], 0 where there is none.
        counted: ``(H, W)`` bool; of another size, all pixels must have one.
        file: File of the prediction.

    Raises:
        InputError: There are such pixels.
    """
    where = counted if counted.shape == prediction.shape else torch.ones_like(prediction, dtype=torch.bool)
    if missing := int((prediction[where] <= 0).sum()):
        raise InputError(f"{file}: {missing} pixels that count have no depth above 0; a prediction needs all of them")


def read_prediction(path: Path, *, unit: Unit, unit_of_floats: Unit = 1.0) -> Tensor:
    """A predicted depth map ``(H, W)`` [m], 0 where there is none.

    Args:
        path: The file.
        unit: Unit of whole numbers.
        unit_of_floats: Unit of others; by default meters.

    Raises:
        InputError: It can't be read.
    """
    return torch.from_numpy(read_depth(path, unit=unit, unit_of_floats=unit_of_floats))
