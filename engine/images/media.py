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
"""Frames a second that a video's header can mean."""

DEFAULT_RATE = 25.0

LOST = 100
"""Frames in a row that can't be read, after which a video is taken to be over."""


@dataclass(frozen=True)
class Frame:
    """One image of the input.

    Attributes:
        name: File name, with the frame's number if it is of a video.
        image: ``(3, H, W)`` uint8, RGB.
        video_fps: Frames a second of the video it is of; None for a still image.
    """

    name: str
    image: Tensor
    video_fps: float | None = None


@dataclass(frozen=True)
class Inputs:
    """The files that inputs stand for.

    Attributes:
        files: Images and videos; files of a folder are in the order of their names.
        passed_over: What else there was in folders, by kind.
    """

    files: list[Path]
    passed_over: Counter[str]


def find_inputs(paths: Sequence[Path]) -> Inputs:
    """The images and videos that are named, and the images in the folders that are.

    Raises:
        InputError: There is no such file, or nothing to read.
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
            found.passed_over["sub-folders"] += 1
        elif has_image_suffix(file):
            found.files.append(file)
        else:
            found.passed_over[
                "videos" if is_video(file) else f"files ending in {file.suffix.lower() or 'nothing'}"
            ] += 1


def told(counts: Counter[str]) -> str:
    """Counts by kind in one line."""
    return ", ".join(f"{number} {kind}" for kind, number in counts.items())


def is_video(path: Path) -> bool:
    """Whether a file's name ends as a video's."""
    return path.suffix.lower() in VIDEOS


def read_frames(path: Path, *, turn: bool = True) -> Iterator[Frame]:
    """Read the one frame of an image, or the frames of a video.

    Args:
        path: The file.
        turn: Turn images upright, as their EXIF data say.

    Raises:
        InputError: It can't be read.
    """
    if is_video(path):
        yield from read_video(path)
    else:
        yield Frame(path.name, torch.from_numpy(np.array(decode(path, turn=turn))).permute(2, 0, 1))


def count_frames(path: Path) -> int:
    """How many frames a file has; of a video what its header says, which may be too many or, if it says nothing, 1."""
    if not is_video(path):
        return 1
    capture = cv2.VideoCapture(str(path))
    try:
        return max(1, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
    finally:
        capture.release()


def decode(path: Path, *, mode: str = "RGB", turn: Turn = True) -> Image.Image:
    """An image file in one of Pillow's modes, turned upright as its EXIF data say, or as it is stored.

    Raises:
        InputError: It can't be read.
    """
    try:
        return read_image_file(path, mode=mode, turn=turn)
    except UNREADABLE as error:
        fault = f"no image, or a damaged one ({reason(error)})"
        raise InputError(f"{path}: {fault}; re-download it or leave it out") from error


def read_video(path: Path) -> Iterator[Frame]:
    """The frames of a video file that can be read; the numbers of others are left out, and told."""
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
    """OpenCV's ``(H, W, 3)`` BGR as ``(3, H, W)`` RGB, uint8."""
    return torch.from_numpy(np.ascontiguousarray(image[..., ::-1])).permute(2, 0, 1)
