"""Files of depth maps and images: 16-bit PNG in any unit, NumPy's ``.npy``, and floats in TIFF or OpenEXR."""

import io
from pathlib import Path

import cv2
import numpy as np

from depth.data.units import Unit, meters_of_float, units_per_meter
from odebackbones.errors import InputError

INVALID = 65535
"""Value besides 0 that some cameras write where they measured nothing (7-Scenes)."""

LARGEST = INVALID - 1
IMAGES = (".png", ".tif", ".tiff", ".exr")
SUFFIXES = (*IMAGES, ".npy")
"""Suffixes of depth maps; later ones are preferred: of two files with one name, the picture may be a preview."""


def read_depth(path: Path, *, unit: Unit, unit_of_floats: Unit | None = None) -> np.ndarray:
    """Read a depth map ``(H, W)`` [m], float32, 0 where nothing was measured.

    Args:
        path: File of whole numbers (16 or 32 bits) or floats; where a float is not finite or not above 0, nothing was
            measured.
        unit: Unit of the numbers; the name of a unit applies to whole numbers only, and floats are then in meters.
        unit_of_floats: Unit of floats, if it is different.

    Raises:
        InputError: The file can't be read, or does not hold a depth map.
    """
    values = load_values(path)
    while values.ndim > 2 and 1 in (values.shape[0], values.shape[-1]):
        values = values.squeeze(0 if values.shape[0] == 1 else -1)
    if values.ndim != 2:
        raise InputError(f"{path}: a depth map has one channel, and this file is {values.shape}; is it a picture?")
    if values.dtype.kind == "f":
        scale = meters_of_float(unit if unit_of_floats is None else unit_of_floats)
        depth = (values.astype(np.float64) * scale).astype(np.float32)
        return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))
    if values.dtype.itemsize < 2 or values.dtype.kind not in "iu":
        raise InputError(f"{path}: expected 16-bit whole numbers or floats, got {values.dtype}; is it a picture?")
    whole = values.astype(np.int64)
    depth = (whole / units_per_meter(unit)).astype(np.float32)
    return np.where((whole > 0) & (whole != INVALID), depth, np.float32(0))


def load_values(path: Path) -> np.ndarray:
    """Read the numbers in a file."""
    return load_array(path) if path.suffix.lower() == ".npy" else load_image(path)


def load_image(path: Path) -> np.ndarray:
    """Read an image file with OpenCV, as stored."""
    if not path.is_file():
        raise InputError(f"{path}: no such depth map")
    try:
        values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    except cv2.error:  # a format that this OpenCV was built without, or that is disabled
        values = None
    if values is None:
        needs = "; it takes an OpenCV built with OpenEXR, and OPENCV_IO_ENABLE_OPENEXR=1"
        hint = needs if path.suffix.lower() == ".exr" else ""
        raise InputError(f"{path}: can't be read as a depth map; re-download it or leave it out{hint}")
    return values


def load_array(path: Path) -> np.ndarray:
    """Read a NumPy file, without running code from it."""
    try:
        return np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such depth map") from error
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: no array that NumPy can read ({error})") from error


def depth_png(depth: np.ndarray, *, unit: Unit) -> bytes:
    """Encode a 16-bit PNG file: 0 where ``depth`` is not finite or not above 0, else clipped to 1 and ``LARGEST``.

    Args:
        depth: ``(H, W)`` [m].
        unit: Unit to which the values are rounded.
    """
    valid = np.isfinite(depth) & (depth > 0)
    values = np.rint(np.where(valid, depth, 0).astype(np.float64) * units_per_meter(unit)).clip(1, LARGEST)
    written, content = cv2.imencode(".png", np.where(valid, values, 0).astype(np.uint16))
    assert written
    return content.tobytes()


def image_png(image: np.ndarray) -> bytes:
    """Encode an image ``(H, W, 3)`` uint8, RGB, as a PNG file."""
    written, content = cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]))
    assert written
    return content.tobytes()


def depth_npy(depth: np.ndarray) -> bytes:
    """Encode a depth map ``(H, W)`` [m] as a ``.npy`` file of float32."""
    buffer = io.BytesIO()
    np.save(buffer, depth.astype(np.float32))
    return buffer.getvalue()
