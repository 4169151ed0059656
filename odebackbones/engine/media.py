"""Images, folders of images and videos, as frames to predict on."""

import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import cv2
import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional

from odebackbones.errors import InputError

IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
"""What Pillow raises for a file that is missing, no image, or broken."""

VIDEOS = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v"}


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


def read_frames(path: Path) -> Iterator[Frame]:
    """The frames of an image, of a folder's images in the order of their names, or of a video.

    Raises:
        InputError: There is nothing to read, or it can't be read.
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGES)
        if not files:
            raise InputError(f"{path}: no images in this folder (looked for {', '.join(sorted(IMAGES))})")
        for file in files:
            yield read_image(file)
    elif not path.exists():
        raise InputError(f"{path}: no such file or folder; give an image, a folder of images, or a video")
    elif path.suffix.lower() in VIDEOS:
        yield from read_video(path)
    elif path.suffix.lower() in IMAGES:
        yield read_image(path)
    else:
        known = ", ".join(sorted(IMAGES | VIDEOS))
        raise InputError(f"{path}: neither an image nor a video by its ending (known: {known})")


def decode(path: Path, *, mode: str = "RGB") -> Image.Image:
    """An image file in one of Pillow's modes, turned upright as its EXIF data say.

    Raises:
        InputError: It can't be read.
    """
    try:
        # Pillow warns of damage before it raises an error
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert(mode)
    except UNREADABLE as error:
        raise InputError(f"{path}: no image, or a damaged one ({error}); re-download it or leave it out") from error


def read_image(path: Path) -> Frame:
    """An image file, turned upright as its EXIF data say."""
    return Frame(path.name, torch.from_numpy(np.array(decode(path))).permute(2, 0, 1))


def read_video(path: Path) -> Iterator[Frame]:
    """The frames of a video file."""
    capture = cv2.VideoCapture(str(path))
    try:
        fps = capture.get(cv2.CAP_PROP_FPS) or 25.0
        number = 0
        while (read := capture.read())[0]:
            yield Frame(f"{path.stem}_{number:06d}.jpg", to_tensor(read[1]), video_fps=fps)
            number += 1
        if number == 0:
            raise InputError(f"{path}: no frame could be read; is it a video that OpenCV knows?")
    finally:
        capture.release()


def to_tensor(image: np.ndarray) -> Tensor:
    """OpenCV's ``(H, W, 3)`` BGR as ``(3, H, W)`` RGB, uint8."""
    return torch.from_numpy(np.ascontiguousarray(image[..., ::-1])).permute(2, 0, 1)


def to_array(image: Tensor) -> np.ndarray:
    """``(3, H, W)`` RGB as OpenCV's ``(H, W, 3)`` BGR, uint8."""
    return np.ascontiguousarray(image.permute(1, 2, 0).numpy()[..., ::-1])


class FrameWriter:
    """Writes pictures of frames: stills to files of their names, those of a video into one video.

    Args:
        folder: Where to; it exists.
        video_name: Stem of the video's name.
    """

    def __init__(self, folder: Path, *, video_name: str) -> None:
        self.folder = folder
        self.video_path = folder / f"{video_name}.mp4"
        self.video: cv2.VideoWriter | None = None
        self.video_size: tuple[int, int] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.video is not None:
            self.video.release()

    def write(self, frame: Frame, picture: Tensor) -> None:
        """Write the picture ``(3, H, W)`` uint8 made of ``frame``.

        Raises:
            InputError: It can't be written, or it is not of the size of the video's first one.
        """
        if frame.video_fps is None:
            path = self.folder / frame.name
            if not cv2.imwrite(str(path), to_array(picture)):
                raise InputError(f"{path}: can't be written; choose another --out")
            return
        picture = even_sides(picture)
        size = (picture.shape[-1], picture.shape[-2])
        if self.video is None:
            self.video, self.video_size = self.open_video(frame.video_fps, size), size
        if size != self.video_size:
            raise InputError(f"{frame.name}: a frame of {size} px in a video of {self.video_size} px")
        self.video.write(to_array(picture))

    def open_video(self, fps: float, size: tuple[int, int]) -> cv2.VideoWriter:
        """An MP4 file for pictures of ``size`` (width, height) [px]."""
        video = cv2.VideoWriter(str(self.video_path), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
        if not video.isOpened():
            raise InputError(f"{self.video_path}: can't be written; choose another --out")
        return video


def even_sides(picture: Tensor) -> Tensor:
    """``(3, H, W)`` with its last row or column repeated where a side is odd: the video codec takes even ones."""
    height, width = picture.shape[-2:]
    padded = functional.pad(picture.float()[None], (0, width % 2, 0, height % 2), mode="replicate")
    return padded[0].to(picture.dtype)
