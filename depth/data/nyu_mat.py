"""Conversion of the labeled NYU-Depth-v2 from ``nyu_depth_v2_labeled.mat`` and ``splits.mat`` to PNG and two lists.

Silberman et al., "Indoor Segmentation and Support Inference from RGBD Images", ECCV 2012,
https://cs.nyu.edu/~fergus/datasets/nyu_depth_v2.html.
"""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from depth.data.depth_files import depth_png, image_png
from engine.atomic_files import new_folder
from odebackbones.errors import InputError, unknown_name

DEPTHS = {"filled": "depths", "raw": "rawDepths"}
"""Kind of depth -> dataset in the file: with holes filled in, or as the Kinect measured it (0 in a hole)."""

SPLITS = {"train": "trainNdxs", "test": "testNdxs"}
"""List that is written -> variable in ``splits.mat``."""

NEEDS = "reading MATLAB's files needs: pip install 'odebackbones[nyu]'"


def write_nyu(mat: Path, splits: Path, out: Path, *, depths: str = "filled") -> dict[str, int]:
    """Write ``rgb/00001.png``, ``depth/00001.png`` (16-bit, mm), ... and the lists ``train.txt`` and ``test.txt``.

    A line of a list is ``rgb/00001.png depth/00001.png``; the numbers are the data set's own, from 1.

    Args:
        mat: Labeled data set, MATLAB v7.3: ``images`` ``(N, 3, W, H)`` uint8, and depths ``(N, W, H)`` [m].
        splits: Official ``splits.mat``, MATLAB v5.
        out: New or empty folder, which is filled completely or not at all.
        depths: A name of :data:`DEPTHS`.

    Returns:
        Name of a list -> number of its images; 795 and 654 are the official numbers.

    Raises:
        InputError: An input is missing or is not as expected, or ``out`` is not empty.
    """
    if depths not in DEPTHS:
        raise unknown_name("depths", depths, DEPTHS)
    with _open_hdf5(mat) as file, new_folder(out) as folder:
        images, maps = _datasets(file, mat, DEPTHS[depths])
        lists = read_splits(splits, len(images))
        for name in ("rgb", "depth"):
            (folder / name).mkdir()
        for i in tqdm(range(len(images)), unit="image", leave=False, disable=None):
            (folder / _file("rgb", i + 1)).write_bytes(image_png(_read(images, i, mat).transpose(2, 1, 0)))
            (folder / _file("depth", i + 1)).write_bytes(depth_png(_read(maps, i, mat).T, unit="mm"))
        for name, numbers in lists.items():
            lines = [f"{_file('rgb', number)} {_file('depth', number)}\n" for number in numbers]
            (folder / f"{name}.txt").write_text("".join(lines), encoding="utf-8")
    return {name: len(numbers) for name, numbers in lists.items()}


def _file(folder: str, number: int) -> str:
    return f"{folder}/{number:05d}.png"


def _open_hdf5(path: Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise InputError(NEEDS) from error
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected nyu_depth_v2_labeled.mat")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"{path}: not an HDF5 file, as MATLAB v7.3 writes it ({error}); download it again") from error


def _datasets(file: Any, path: Path, depths: str) -> tuple[Any, Any]:
    """Return the datasets of the images and the depths, not read yet."""
    lacking = [name for name in ("images", depths) if name not in file]
    if lacking:
        raise InputError(f"{path}: has no dataset {', '.join(lacking)}, only {', '.join(file) or 'none'}")
    images, maps = file["images"], file[depths]
    if images.ndim != 4 or images.shape[1] != 3 or images.dtype != np.uint8:
        raise InputError(f"{path}: expected images (N, 3, W, H) of uint8, got {images.shape} of {images.dtype}")
    if maps.shape != (len(images), *images.shape[2:]) or maps.dtype.kind != "f":
        raise InputError(
            f"{path}: expected {depths} {(len(images), *images.shape[2:])} of floats, got {maps.shape} of {maps.dtype}"
        )
    return images, maps


def _read(dataset: Any, i: int, path: Path) -> np.ndarray:
    try:
        return dataset[i]
    except OSError as error:
        raise InputError(
            f"{path}: {dataset.name} of image {i + 1} can't be read ({error}); download it again"
        ) from error


def read_splits(path: Path, images: int) -> dict[str, list[int]]:
    """Return name of a list -> numbers of its images, from 1.

    Args:
        path: Official ``splits.mat``.
        images: Number of images in the data set.

    Raises:
        InputError: The file does not hold these splits, or a number belongs to no image or occurs twice.
    """
    content = _load_mat(path)
    lists: dict[str, list[int]] = {}
    for name, variable in SPLITS.items():
        if variable not in content:
            raise InputError(f"{path}: has no variable {variable}; expected the official splits.mat")
        lists[name] = _numbers(content[variable], f"{path}: {variable}", images)
    both = set(lists["train"]) & set(lists["test"])
    if both:
        raise InputError(f"{path}: {len(both)} images are in both lists, e.g. {min(both)}; expected each in one")
    return lists


def _load_mat(path: Path) -> dict[str, Any]:
    try:
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError
    except ImportError as error:
        raise InputError(NEEDS) from error
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected splits.mat")
    try:
        return loadmat(str(path), appendmat=False)
    except (OSError, ValueError, TypeError, IndexError, NotImplementedError, zlib.error, MatReadError) as error:
        raise InputError(f"{path}: not a file as MATLAB v5 writes it ({error}); download it again") from error


def _numbers(values: np.ndarray, where: str, images: int) -> list[int]:
    numbers = values.ravel()
    if not numbers.size or numbers.dtype.kind not in "iuf":
        raise InputError(f"{where}: expected numbers of images, got {numbers.size} values of {numbers.dtype}")
    bad = numbers[~((numbers >= 1) & (numbers <= images) & (numbers == np.floor(numbers)))]
    if bad.size:
        raise InputError(f"{where}: expected whole numbers from 1 to {images}, got {bad[0]}; is it of another file?")
    if np.unique(numbers).size != numbers.size:
        raise InputError(f"{where}: an image is there twice")
    return [int(number) for number in numbers]
