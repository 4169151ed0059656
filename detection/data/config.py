"""Settings of detection data."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from detection.data.shapes import check_parameters
from detection.data.transforms import AUGMENTATIONS
from engine.images.files import Turning
from odebackbones.errors import InputError, unknown_name

DataFormat = Literal["shapes", "coco", "voc", "kitti"]


@dataclass(frozen=True)
class ShapesConfig:
    """Settings of the generated data set.

    Args:
        train_images: Number of training images.
        val_images: Number of validation images, which are drawn with seed + 1.
        size: Height and width of the images [px].
        seed: Seed of the images; different seeds give different images.
    """

    train_images: int = 400
    val_images: int = 100
    size: int = 160
    seed: int = 0

    def __post_init__(self) -> None:
        for images in (self.train_images, self.val_images):
            check_parameters(images=images, size=self.size, seed=self.seed)


@dataclass(frozen=True)
class DataConfig:
    """Which images and boxes to read, how, and how to augment them.

    Args:
        format: Format of the data set: shapes (generated), coco, voc or kitti.
        root: Folder of the data set; for shapes, the folder in which it is generated.
        train: Training split: COCO's annotation file, VOC's image set (e.g. train) or a folder of images and XML files,
            KITTI's file of frame ids. Paths are relative to root, or absolute.
        val: Validation split, given like train.
        train_images: COCO only: folder of the training images, relative to root, or absolute.
        val_images: COCO only: folder of the validation images, relative to root, or absolute.
        classes: Class names in the order of the labels, all of the data set's or some; null takes all.
        strict: Stop at faulty boxes and images; otherwise repair them or leave them out, and report it.
        verify: Decode every image at the start, so that broken files are found then and not during training.
        exif: Use of the orientation in the images' EXIF data: ``auto`` turns images upright unless the recorded size
            says that the boxes refer to the image as stored; ``turn`` turns all, ``ignore`` none. Predictions turn,
            except with ``ignore``.
        augment: Augmentation of training images: none, flip, ssd or lsj.
        workers: Processes that load images; 0 loads in the main process.
        shapes: Parameters of the generated set.
    """

    format: DataFormat = "shapes"
    root: str = "runs/data"
    train: str = ""
    val: str = ""
    train_images: str = ""
    val_images: str = ""
    classes: list[str] | None = None
    strict: bool = False
    verify: bool = True
    exif: Turning = "auto"
    augment: str = "flip"
    workers: int = 2
    shapes: ShapesConfig = field(default_factory=ShapesConfig)

    def __post_init__(self) -> None:
        if self.format not in get_args(DataFormat):
            raise unknown_name("data format", self.format, get_args(DataFormat))
        if self.augment not in AUGMENTATIONS:
            raise unknown_name("augmentation", self.augment, AUGMENTATIONS)
        if self.workers < 0:
            raise InputError(f"--data.workers must be 0 or more, got {self.workers}")
