"""KITTI's raw drives with the depth of ``data_depth_annotated``.

J. Uhrig et al.: Sparsity Invariant CNNs, 3DV 2017, arXiv:1708.06500; A. Geiger et al.: Vision meets Robotics: The KITTI
Dataset, IJRR 2013
"""

from pathlib import Path

FORMS = "IMAGE DEPTH ..., or DRIVE FRAME and l or r"

CAMERAS = {"l": "image_02", "r": "image_03"}
"""Monodepth2's letter of a camera -> KITTI's folder."""

OFFICIAL_SPLITS = ("", "train", "val")
"""Folders of ``data_depth_annotated`` that hold the drives; some people's copies hold them directly."""


def kitti_pair(line: list[str], root: Path, depth_root: Path) -> tuple[Path, Path] | None:
    """The files that a line of a split names.

    Args:
        line: Either Eigen's split as BTS has it: ``DATE/DRIVE/image_02/data/0000000069.png
            DRIVE/proj_depth/groundtruth/image_02/0000000069.png 721.5377``; or as Monodepth2 has it: ``DATE/DRIVE 69
            l``.
        root: Root folder of the raw data.
        depth_root: Root folder of the annotated depth, with or without ``train`` and ``val``.

    Raises:
        ValueError: The split is neither.

    Returns:
        Image and depth map; None for a frame in Monodepth2's form that has no annotated depth, as a drive's first and
        last have none.
    """
    if Path(line[0]).suffix:
        return existing(root / line[0]), in_splits(depth_root, line[1])
    if not line[1].isdecimal() or line[2:3] not in ([], ["l"], ["r"]):
        raise ValueError(f"expected {FORMS}")
    drive, frame, camera = Path(line[0]), f"{int(line[1]):010d}", CAMERAS[line[2] if len(line) > 2 else "l"]
    depth = in_splits(depth_root, f"{drive.name}/proj_depth/groundtruth/{camera}/{frame}.png")
    return (existing(root / drive / camera / "data" / f"{frame}.png"), depth) if depth.is_file() else None


def existing(image: Path) -> Path:
    """The image, or the same as JPEG: many keep the raw data so."""
    return image if image.is_file() or not image.with_suffix(".jpg").is_file() else image.with_suffix(".jpg")


def in_splits(depth_root: Path, path: str) -> Path:
    """The file in whichever official split it is; if in none, as the list has it, to be named in the error."""
    found = [file for split in OFFICIAL_SPLITS if (file := depth_root / split / path).is_file()]
    return found[0] if found else depth_root / path
