"""Settings of depth data."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from depth.data.generated import check_parameters
from depth.data.transforms import AUGMENTATIONS
from depth.data.units import Unit, units_per_meter
from engine.images.files import Turning
from odebackbones.errors import InputError, unknown_name

DataFormat = Literal["scenes", "folder", "kitti"]


@dataclass(frozen=True)
class ScenesConfig:
    """Parameters of the generated set.

    Args:
        preset: ``road`` (to 80 m) or ``room`` (to 10 m).
        train_images: Number of training images.
        val_images: Number of validation images, which are drawn with seed + 1.
        size: Height and width of the images [px].
        seed: Seed of the scenes; other seeds draw other scenes.
    """

    preset: str = "road"
    train_images: int = 800
    val_images: int = 100
    size: tuple[int, int] = (96, 320)
    seed: int = 0

    def __post_init__(self) -> None:
        for images in (self.train_images, self.val_images):
            check_parameters(preset=self.preset, images=images, size=self.size, seed=self.seed)


@dataclass(frozen=True)
class DataConfig:
    """Settings of the data: which pairs of an image and a depth map to read, how, and how to augment them.

    Args:
        format: ``scenes`` (generated), ``folder`` (any pairs, including NYU's) or ``kitti`` (KITTI's raw data with its
            annotated depth).
        root: Folder that paths are relative to; for scenes, the folder in which they are generated.
        depth_root: Folder that the depth maps' paths are relative to; empty for root. KITTI: ``data_depth_annotated``.
        train: Training split: a text file with lines ``IMAGE DEPTH ...``, with paths that are absolute or relative to
            root, in quotes if they contain spaces, or TUM's ``TIME IMAGE TIME DEPTH``; for ``folder`` also a subfolder
            of root that holds the folders rgb and depth, or a slice of root's pairs in the order of their names:
            ``:800`` takes the first 800.
        val: Validation split, likewise.
        rgb: Name of the folder of images, for ``folder``.
        depth: Name of the folder of depth maps, for ``folder``; they have the images' names except for the suffix.
        unit: Unit of depth maps in whole numbers: ``m/256`` (KITTI), ``mm`` (NYU, ScanNet, most cameras), ``cm``,
            ``m/5000`` (TUM) and so on, with floats in meters; or, for both, the meters that 1 in the file stands for.
        strict: Stop at faulty pairs and name them; otherwise leave them out and report it.
        verify: Decode every pair at the start, so that faults are found before training.
        exif: Use of the orientation in EXIF data: ``auto`` turns images upright except where the depth map has the
            size or the proportions of the stored image; ``turn`` turns all, ``ignore`` none. Predictions turn images,
            unless ``ignore``.
        check_unit: Refuse depths that are far from ``model.max_depth``, as they would be in a wrong unit.
        size: Height and width [px] that images are resized to; null keeps their size.
        crop: Height and width [px] of a random crop for training; null for none.
        augment: Augmentation of training pairs: ``none``, ``flip``, ``color`` (and flip), or ``scale`` (and the
            others), which zooms in by up to a quarter and divides the depth by the same factor.
        in_memory: Keep the decoded pairs in memory.
        workers: Number of processes that load pairs; 0 for the main process.
        scenes: Parameters of the generated set.
    """

    format: DataFormat = "scenes"
    root: str = "runs/data"
    depth_root: str = ""
    train: str = ""
    val: str = ""
    rgb: str = "rgb"
    depth: str = "depth"
    unit: Unit = "m/256"
    strict: bool = False
    verify: bool = True
    exif: Turning = "auto"
    check_unit: bool = True
    size: tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    augment: str = "color"
    in_memory: bool = False
    workers: int = 2
    scenes: ScenesConfig = field(default_factory=ScenesConfig)

    def __post_init__(self) -> None:
        if self.format not in get_args(DataFormat):
            raise unknown_name("data.format", self.format, get_args(DataFormat))
        units_per_meter(self.unit)
        if self.augment not in AUGMENTATIONS:
            raise unknown_name("data.augment", self.augment, AUGMENTATIONS)
        if self.workers < 0:
            raise InputError(f"data.workers={self.workers}: expected at least 0")
        for name in ("size", "crop"):
            sides = getattr(self, name)
            if sides is not None and min(sides) < 32:
                raise InputError(f"data.{name}={list(sides)}: expected height and width of at least 32 px")
