"""Sparse depth from KITTI's LiDAR (Geiger et al., "Vision meets Robotics: The KITTI Dataset", IJRR 2013).

A point X of the scanner is projected to the pixel (u, v) of camera i at the depth d from that camera [m]::

    d (u, v, 1) = P_i R_0 T X

with T from the scanner to camera 0, R_0 the rectifying rotation of camera 0, and P_i the projection of the rectified
camera i.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from engine.images.files import IMAGE_SUFFIXES, UNREADABLE
from odebackbones.errors import InputError, join_names

POINT_BYTES = 16
"""Bytes of a point: x, y, z and the reflectance, each as float32."""

CAMERAS = range(4)
RAW_CAMERAS, RAW_SCANNER = "calib_cam_to_cam.txt", "calib_velo_to_cam.txt"
"""Calibration files of a day of raw recordings."""


@dataclass(frozen=True)
class Calibration:
    """Poses and projections of a car's scanner and cameras.

    Attributes:
        projections: Number of a camera -> P ``(3, 4)``, from rectified coordinates of camera 0 [m] to pixels.
        scanner: R_0 T ``(4, 4)``, from the scanner's coordinates [m] to rectified coordinates of camera 0 [m].
    """

    projections: Mapping[int, np.ndarray]
    scanner: np.ndarray


@dataclass(frozen=True)
class Scan:
    """One scan: its points, its calibration (a file or a folder), and an image of the depth map's size."""

    name: str
    points: Path
    calibration: Path
    image: Path


def match_scans(points: Path, calibration: Path, images: Path) -> list[Scan]:
    """Match the scans of a file or folder with the files of the same stem, sorted by name.

    Args:
        points: One ``.bin`` file, or a folder of such files.
        calibration: A folder of ``STEM.txt``; or, for all scans, one file or the folder of a day of raw recordings.
        images: A folder of images, or one image for all scans.

    Raises:
        InputError: There are no scans, or some scans have no calibration or image.
    """
    scans = {points.stem: points} if points.is_file() else _files(points, [".bin"])
    calibrations = _partners(calibration, scans, [".txt"])
    pictures = _partners(images, scans, sorted(IMAGE_SUFFIXES))
    return [Scan(stem, scans[stem], calibrations[stem], pictures[stem]) for stem in scans]


def _files(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such file or folder")
    files = {file.stem: file for file in sorted(folder.iterdir()) if file.suffix.lower() in suffixes}
    if not files:
        raise InputError(f"{folder}: no files in this folder that end in {', '.join(suffixes)}")
    return files


def _partners(path: Path, scans: Mapping[str, Path], suffixes: Sequence[str]) -> dict[str, Path]:
    if path.is_file() or (path / RAW_CAMERAS).is_file():
        return dict.fromkeys(scans, path)
    files = _files(path, suffixes)
    missing = [stem for stem in scans if stem not in files]
    if missing:
        raise InputError(
            f"{path}: lacks {join_names(missing)} ({', '.join(suffixes)}), of which there are points; add or remove "
            "them"
        )
    return files


def read_points(path: Path) -> np.ndarray:
    """Read the points of a scan ``(N, 4)``, float32: x forward, y left, z up [m], and the reflectance from 0 to 1.

    Raises:
        InputError: The file is missing, empty or ends within a point.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file of LiDAR points")
    content = path.read_bytes()
    if not content or len(content) % POINT_BYTES:
        raise InputError(
            f"{path}: expected {POINT_BYTES} bytes a point (x, y, z, reflectance), got {len(content)} bytes; "
            f"download it again"
        )
    return np.frombuffer(content, "<f4").astype(np.float32).reshape(-1, 4)


def image_size(path: Path) -> tuple[int, int]:
    """Read the height and width of an image [px] from its file's header.

    Raises:
        InputError: The image can't be read.
    """
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except UNREADABLE as error:
        raise InputError(f"{path}: can't be read as an image ({error})") from error


class _CalibrationFile:
    """A file of lines ``name: numbers``."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise InputError(f"{path}: no such calibration")
        try:
            lines = [line.partition(":") for line in path.read_text(encoding="utf-8").splitlines()]
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not a text file ({error}); download it again") from error
        self.path = path
        self.lines = {name.strip(): values.split() for name, _, values in lines}

    def matrix(self, name: str, rows: int, columns: int) -> np.ndarray:
        """Return the numbers after ``name`` as a matrix."""
        words = self.lines.get(name, [])
        try:
            values = np.array(words, dtype=np.float64)
        except ValueError:
            values = np.array([])
        if values.size != rows * columns or not np.isfinite(values).all():
            found = " ".join(words)[:80] or "nothing"
            raise InputError(f"{self.path}: expected {rows * columns} numbers behind '{name}:', got {found}")
        return values.reshape(rows, columns)

    def projections(self, prefix: str) -> dict[int, np.ndarray]:
        """Return number of a camera -> projection, for the cameras in the file."""
        return {i: self.matrix(f"{prefix}{i}", 3, 4) for i in CAMERAS if f"{prefix}{i}" in self.lines}


def read_calibration(path: Path) -> Calibration:
    """Read the calibration of the scanner and the cameras.

    Args:
        path: A frame's file from the object benchmark (``P2``, ``R0_rect``, ``Tr_velo_to_cam``), or the folder of a
            day of raw recordings (``P_rect_02`` and ``R_rect_00``; ``R`` and ``T``).

    Raises:
        InputError: A file or a line in it is missing.
    """
    cameras = _CalibrationFile(path / RAW_CAMERAS if path.is_dir() else path)
    if path.is_dir():
        scanner = _CalibrationFile(path / RAW_SCANNER)
        pose = np.hstack([scanner.matrix("R", 3, 3), scanner.matrix("T", 3, 1)])
        rotation, projections = cameras.matrix("R_rect_00", 3, 3), cameras.projections("P_rect_0")
    else:
        pose = cameras.matrix("Tr_velo_to_cam", 3, 4)
        rotation, projections = cameras.matrix("R0_rect", 3, 3), cameras.projections("P")
    return Calibration(projections, np.vstack([rotation @ pose, [0, 0, 0, 1]]))


def project(
    points: np.ndarray, calibration: Calibration, size: tuple[int, int], *, camera: int = 2, first_pixel: int = 1
) -> np.ndarray:
    """Project points to the depth of the nearest one on each pixel: ``(N, 4) -> (H, W)`` [m], float32, 0 for none.

    The pixel is ``round(u) - first_pixel``. KITTI's calibration counts pixels from 0 (its devkit adds 1 to draw in
    MATLAB). The code behind the depth maps on which the field trains and evaluates subtracts 1 anyway, which shifts
    them by a pixel up and left: ``generate_depth_map`` of Monodepth (Godard et al., "Unsupervised Monocular Depth
    Estimation with Left-Right Consistency", CVPR 2017), which also confuses a few pixels when it looks for the nearest
    point.

    Args:
        points: Points of :func:`read_points`; points behind the camera or outside the image are ignored.
        calibration: Calibration of :func:`read_calibration`.
        size: Height and width of the depth map [px].
        camera: Number of the camera; 2 is KITTI's left color camera, 3 the right one.
        first_pixel: Coordinates u and v of the first pixel: 1 as is common in the field, 0 as in KITTI's calibration.

    Raises:
        InputError: The calibration has no such camera.
    """
    if camera not in calibration.projections:
        known = ", ".join(map(str, sorted(calibration.projections))) or "none"
        raise InputError(f"camera {camera}: the calibration has no such camera, but {known}")
    matrix = calibration.projections[camera] @ calibration.scanner
    finite = points[np.isfinite(points[:, :3]).all(axis=1), :3].astype(np.float64)
    seen = finite @ matrix[:, :3].T + matrix[:, 3]
    ahead = seen[seen[:, 2] > 0]
    pixels = np.rint(ahead[:, :2] / ahead[:, 2:]) - first_pixel
    inside = ((pixels >= 0) & (pixels < size[::-1])).all(axis=1)
    columns, rows = pixels[inside].astype(np.int64).T
    nearest = np.full(size, np.inf, dtype=np.float32)
    np.minimum.at(nearest, (rows, columns), ahead[inside, 2].astype(np.float32))
    return np.where(np.isfinite(nearest), nearest, np.float32(0))
