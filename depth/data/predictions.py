"""Folders of depth maps that some model has predicted."""

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
"""Number of folders above an image's own whose names may precede its name: BTS writes ``DRIVE_FRAME.png`` for KITTI."""

ENDINGS = ("_depth", "")
"""Text between an image's name and the file's suffix: ``tools/predict.py`` writes pictures under the bare name."""


def prediction_files(folder: Path, pairs: Sequence[DepthPair]) -> list[Path]:
    """Find the predictions by the names of the pairs, of their images, or of a folder and the image.

    Names other than a pair's own count only if no two images share them.

    Args:
        folder: Folder with ``NAME.png``, ``NAME.npy``, ...; of two with one name, the ``.npy``, which is not rounded.
        pairs: Pairs whose predictions are wanted.

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
    """Return the names that a pair's prediction may have."""
    return (pair.name, *(name for name in other_names(pair) if uses[name] == 1))


def other_names(pair: DepthPair) -> set[str]:
    """Return the image's name, alone and after the name of one of the folders above it."""
    image = pair.image
    folders = [folder.name for folder in list(image.parents)[: 1 + ANCESTORS]]
    return {image.stem, *(f"{folder}_{image.stem}" for folder in folders)} - {pair.name}


def require_all(prediction: Tensor, counted: Tensor, file: Path) -> None:
    """Refuse a prediction that lacks depth at pixels that count.

    Args:
        prediction: ``(H, W)`` [m], 0 where depth is missing.
        counted: Pixels that count, ``(H, W)`` bool; if its size differs, all pixels of the prediction count.
        file: File of the prediction.

    Raises:
        InputError: The prediction lacks depth at such pixels.
    """
    where = counted if counted.shape == prediction.shape else torch.ones_like(prediction, dtype=torch.bool)
    if missing := int((prediction[where] <= 0).sum()):
        raise InputError(f"{file}: {missing} pixels that count have no depth above 0; a prediction needs all of them")


def read_prediction(path: Path, *, unit: Unit, unit_of_floats: Unit = 1.0) -> Tensor:
    """Read a predicted depth map ``(H, W)`` [m], 0 where depth is missing.

    Args:
        path: File of the depth map.
        unit: Unit of whole numbers.
        unit_of_floats: Unit of floats; meters by default.

    Raises:
        InputError: The file can't be read.
    """
    return torch.from_numpy(read_depth(path, unit=unit, unit_of_floats=unit_of_floats))
