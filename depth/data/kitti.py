"""KITTI's raw drives with the depth maps of ``data_depth_annotated``.

J. Uhrig et al.: Sparsity Invariant CNNs, 3DV 2017, arXiv:1708.06500; A. Geiger et al.: Vision meets Robotics: The KITTI
Dataset, IJRR 2013
"""

from pathlib import Path

FORMS = "IMAGE DEPTH ..., or DRIVE FRAME and l or r"

CAMERAS = {"l": "image_02", "r": "image_03"}
"""Monodepth2's letter of a camera -> folder of the camera in KITTI."""

OFFICIAL_SPLITS = ("", "train", "val")
"""Folders of ``data_depth_annotated`` that hold the drives; some copies hold them directly."""


def kitti_pair(line: list[str], root: Path, depth_root: Path) -> tuple[Path, Path] | None:
    """Return the files that a line of a split names.

    Args:
        line: Words of a line of Eigen's split as in BTS: ``DATE/DRIVE/image_02/data/0000000069.png
            DRIVE/proj_depth/groundtruth/image_02/0000000069.png 721.5377``; or as in Monodepth2: ``DATE/DRIVE 69
            l``.
        root: Root folder of the raw data.
        depth_root: Root folder of the annotated depth, with or without ``train`` and ``val``.

    Raises:
        ValueError: The line has neither form.

    Returns:
        Image and depth map; None for a frame in Monodepth2's form without annotated depth, such as a drive's first and
        last frames.
    """
    if Path(line[0]).suffix:
        return existing(root / line[0]), in_splits(depth_root, line[1])
    if not line[1].isdecimal() or line[2:3] not in ([], ["l"], ["r"]):
        raise ValueError(f"expected {FORMS}")
    drive, frame, camera = Path(line[0]), f"{int(line[1]):010d}", CAMERAS[line[2] if len(line) > 2 else "l"]
    depth = in_splits(depth_root, f"{drive.name}/proj_depth/groundtruth/{camera}/{frame}.png")
    return (existing(root / drive / camera / "data" / f"{frame}.png"), depth) if depth.is_file() else None


def existing(image: Path) -> Path:
    """Return the image's path, or its path as JPEG if only that exists: many keep the raw data as JPEG."""
    return image if image.is_file() or not image.with_suffix(".jpg").is_file() else image.with_suffix(".jpg")


def in_splits(depth_root: Path, path: str) -> Path:
    """Find the file in the official splits; if in none, return its path as in the list, for the error message."""
    found = [file for split in OFFICIAL_SPLITS if (file := depth_root / split / path).is_file()]
    return found[0] if found else depth_root / path
