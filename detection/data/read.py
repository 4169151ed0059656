"""Annotations from a config: the only module that knows all data formats."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from detection.data.assemble import ReadOptions
from detection.data.coco import read_coco
from detection.data.config import DataConfig
from detection.data.kitti import read_kitti
from detection.data.records import Annotations
from detection.data.shapes import ANNOTATION_FILE, IMAGE_FOLDER, generate_shapes
from detection.data.voc import read_voc
from engine.images.check import refuse_other_images
from odebackbones.errors import InputError

Split = Literal["train", "val"]
Reader = Callable[[DataConfig, Split, ReadOptions], Annotations]


def read_annotations(config: DataConfig, split: Split, *, classes: Sequence[str] | None = None) -> Annotations:
    """Read a split of the configured data set; generate it first if it is ``shapes``.

    Args:
        config: Settings of the data.
        split: Name of the split: ``"train"`` or ``"val"``.
        classes: Class names in the order of the labels, instead of the config's: give the training split's (or the
            checkpoint's) when reading the validation split, so that labels agree.
    """
    names = config.classes if classes is None else classes
    chosen = config.classes is not None
    complete = chosen and classes is None
    options = ReadOptions(config.strict, config.verify, config.exif, names, chosen=chosen, complete=complete)
    return READERS[config.format](config, split, options)


def _read_shapes(config: DataConfig, split: Split, options: ReadOptions) -> Annotations:
    shapes = config.shapes
    images, seed = {"train": (shapes.train_images, shapes.seed), "val": (shapes.val_images, shapes.seed + 1)}[split]
    refuse_other_images(Path(config.root), generated="shapes", formats=("coco", "voc", "kitti"))
    folder = Path(config.root) / f"shapes_{split}_{images}x{shapes.size}px_seed{seed}"
    generate_shapes(folder, images=images, size=shapes.size, seed=seed)
    return read_coco(folder / ANNOTATION_FILE, folder / IMAGE_FOLDER, options)


def _read_coco(config: DataConfig, split: Split, options: ReadOptions) -> Annotations:
    file = _root(config) / _needed(config, split, "the annotation file")
    image_folder = _root(config) / _needed(config, f"{split}_images", "the image folder")
    return read_coco(file, image_folder, options)


def _read_voc(config: DataConfig, split: Split, options: ReadOptions) -> Annotations:
    root = _root(config)
    return read_voc(root, _needed(config, split, "the image set, e.g. train, or a folder of images and XML"), options)


def _read_kitti(config: DataConfig, split: Split, options: ReadOptions) -> Annotations:
    frames = _root(config) / _needed(config, split, "a file of frame ids")
    return read_kitti(_root(config), frames, options)


READERS: dict[str, Reader] = {"shapes": _read_shapes, "coco": _read_coco, "voc": _read_voc, "kitti": _read_kitti}


def _root(config: DataConfig) -> Path:
    root = Path(config.root)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; set --data.root to the {config.format} data set")
    return root


def _needed(config: DataConfig, name: str, what: str) -> str:
    value: str = getattr(config, name)
    if not value:
        raise InputError(f"--data.{name} is empty; {config.format} needs {what} there")
    return value
