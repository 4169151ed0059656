"""Images, folders of images and videos, as frames to predict on."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from engine.images.files import IMAGE_SUFFIXES, UNREADABLE, Turn, has_image_suffix, read_image_file, reason
from engine.log import warn
from odebackbones.errors import InputError

VIDEOS = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v"}

RATES = (1.0, 240.0)
"""Range of plausible frame rates in a video's header [frames/s]."""

DEFAULT_RATE = 25.0

LOST = 100
"""Number of unreadable frames in a row after which a video is taken to be over."""


@dataclass(frozen=True)
class Frame:
    """One image of the input.

    Attributes:
        name: File name, with the frame's number if it comes from a video.
        image: ``(3, H, W)`` uint8, RGB.
        video_fps: Frame rate of the video it comes from [frames/s]; None for a still image.
    """

    name: str
    image: Tensor
    video_fps: float | None = None


@dataclass(frozen=True)
class Inputs:
    """Files found for the given inputs.

    Attributes:
        files: Images and videos; the files of a folder are sorted by name.
        passed_over: Counts of everything else in the folders, by kind.
    """

    files: list[Path]
    passed_over: Counter[str]


def find_inputs(paths: Sequence[Path]) -> Inputs:
    """Find the named images and videos, and the images in the named folders.

    Raises:
        InputError: A path does not exist or is of an unknown type, or there is nothing to read.
    """
    found = Inputs([], Counter())
    for path in paths:
        if path.is_dir():
            look_into(path, found)
        elif not path.exists():
            raise InputError(f"{path}: no such file or folder; give an image, a folder of images, or a video")
        elif is_video(path) or has_image_suffix(path):
            found.files.append(path)
        else:
            known = ", ".join(sorted({*IMAGE_SUFFIXES, *VIDEOS}))
            raise InputError(f"{path}: neither an image nor a video by its ending (known: {known})")
    if not found.files:
        raise InputError(
            f"{', '.join(map(str, paths))}: no images in this folder (looked for {', '.join(IMAGE_SUFFIXES)}; "
            f"found {told(found.passed_over) or 'nothing'})"
        )
    return found


def look_into(folder: Path, found: Inputs) -> None:
    """Add a folder's images, and count the rest."""
    for file in sorted(folder.iterdir()):
        if file.name.startswith("."):
            found.passed_over["hidden files"] += 1
        elif file.is_dir():
            found.passed_over["subfolders (give them to --input, too)"] += 1
        elif has_image_suffix(file):
            found.files.append(file)
        else:
            found.passed_over[
                "videos" if is_video(file) else f"files ending in {file.suffix.lower() or 'nothing'}"
            ] += 1


def told(counts: Counter[str]) -> str:
    """Format counts by kind in one line."""
    return ", ".join(f"{number} {kind}" for kind, number in counts.items())


def is_video(path: Path) -> bool:
    """Whether a file's name has a video suffix."""
    return path.suffix.lower() in VIDEOS


def read_frames(path: Path, *, turn: bool = True) -> Iterator[Frame]:
    """Read the one frame of an image, or the frames of a video.

    Args:
        path: The file.
        turn: Turn images upright according to their EXIF data.

    Raises:
        InputError: The file can't be read.
    """
    if is_video(path):
        yield from read_video(path)
    else:
        yield Frame(path.name, torch.from_numpy(np.array(decode(path, turn=turn))).permute(2, 0, 1))


def count_frames(path: Path) -> int:
    """Count the frames of a file; for a video, return its header's number, which may be too high, or 1 without one."""
    if not is_video(path):
        return 1
    capture = cv2.VideoCapture(str(path))
    try:
        return max(1, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
    finally:
        capture.release()


def decode(path: Path, *, mode: str = "RGB", turn: Turn = True) -> Image.Image:
    """Decode an image file in one of Pillow's modes, upright according to its EXIF data, or as stored.

    Raises:
        InputError: The file can't be read.
    """
    try:
        return read_image_file(path, mode=mode, turn=turn)
    except UNREADABLE as error:
        fault = f"no image, or a damaged one ({reason(error)})"
        raise InputError(f"{path}: {fault}; re-download it or leave it out") from error


def read_video(path: Path) -> Iterator[Frame]:
    """Yield the readable frames of a video; the numbers of unreadable frames are skipped, with a warning."""
    capture = cv2.VideoCapture(str(path))
    try:
        rate, promised = capture.get(cv2.CAP_PROP_FPS), int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        fps = rate if RATES[0] <= rate <= RATES[1] else DEFAULT_RATE
        number = read = lost = 0
        while lost < LOST and (lost == 0 or number < promised):
            there, image = capture.read()
            if there:
                yield Frame(f"{path.stem}_{number:06d}.jpg", to_tensor(image), video_fps=fps)
                read, lost = read + 1, 0
            elif number >= promised:
                break
            else:
                lost += 1
            number += 1
        if read == 0:
            raise InputError(f"{path}: no frame could be read; is it a video that OpenCV knows?")
        if read < promised:
            warn(f"{path}: {read} of the {promised} frames that its header promises could be read")
    finally:
        capture.release()


def to_tensor(image: np.ndarray) -> Tensor:
    """Convert OpenCV's ``(H, W, 3)`` BGR to ``(3, H, W)`` RGB, uint8."""
    return torch.from_numpy(np.ascontiguousarray(image[..., ::-1])).permute(2, 0, 1)
