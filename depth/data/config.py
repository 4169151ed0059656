"""What the user can set about depth data."""

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
    """The generated set.

    Args:
        preset: ``road`` (to 80 m) or ``room`` (to 10 m).
        train_images: Images to train on.
        val_images: Images to validate on; they are drawn from seed + 1.
        size: Height and width [px].
        seed: Other seeds draw other scenes.
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
    """Which pairs of an image and a depth map to read, how, and how to augment them.

    Args:
        format: ``scenes`` (generated), ``folder`` (any pairs, NYU's, too) or ``kitti`` (KITTI's raw data with its
            annotated depth).
        root: Folder that paths are relative to; scenes: where they are generated.
        depth_root: Folder that the depth maps' paths are relative to; empty: root. KITTI: of ``data_depth_annotated``.
        train: Training split. A text file with lines ``IMAGE DEPTH ...``, absolute or relative to root, in quotes where
            they have spaces, or TUM's ``TIME IMAGE TIME DEPTH``; of a folder
            also a subfolder of root that holds the folders rgb and depth, or a slice of the pairs in it, in the order
            of their names: ``:800`` are the first 800.
        val: Validation split, likewise.
        rgb: Folder: name of the folder of images.
        depth: Folder: name of the folder of depth maps, which have the images' names except for the ending.
        unit: Unit of depth maps in whole numbers: ``m/256`` (KITTI), ``mm`` (NYU, ScanNet, most cameras), ``cm``,
            ``m/5000`` (TUM) and so on; floats are meters. Or a number, the meters of 1 in the file, be it whole or not.
        strict: Stop at faulty pairs, naming them; otherwise leave them out, and report it.
        verify: Decode every pair at the start, so that faults are found then and not in training.
        exif: Images with an orientation in their EXIF data: ``auto`` turns them upright but where the depth map has the
            size of the image as stored; ``turn`` turns all, ``ignore`` none. Predictions turn, except with ``ignore``.
        check_unit: Refuse depths that are far from ``model.max_depth``, as those read in a wrong unit are.
        size: Height and width [px] that images are resized to; null: as they are.
        crop: Height and width [px] of a random crop for training; null: none.
        augment: For training pairs: ``none``, ``flip``, ``color`` (and flip), or ``scale`` (and the others): zooming
            in by up to a quarter, with the depth divided by as much.
        in_memory: Keep the decoded pairs.
        workers: Processes that load pairs; 0: the main one.
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
