"""Images, folders of images and videos, as frames to predict on."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
import torch
from torch import Tensor

from odebackbones.errors import InputError

IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
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


def read_image(path: Path) -> Frame:
    """An image file."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise InputError(f"{path}: not an image that OpenCV can read, or a damaged one; re-download it or leave it out")
    return Frame(path.name, to_tensor(image))


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
        self.folder, self.video_name = folder, video_name
        self.video: cv2.VideoWriter | None = None

    def __enter__(self) -> "FrameWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.video is not None:
            self.video.release()

    def write(self, frame: Frame, picture: Tensor) -> None:
        """Write the picture ``(3, H, W)`` uint8 made of ``frame``.

        Raises:
            InputError: It can't be written.
        """
        if frame.video_fps is None:
            path = self.folder / f"{Path(frame.name).stem}.png"
            if not cv2.imwrite(str(path), to_array(picture)):
                raise InputError(f"{path}: can't be written; choose another --out")
            return
        if self.video is None:
            self.video = self.open_video(frame.video_fps, picture)
        self.video.write(to_array(picture))

    def open_video(self, fps: float, picture: Tensor) -> cv2.VideoWriter:
        """An MP4 file for pictures of this size."""
        path = self.folder / f"{self.video_name}.mp4"
        height, width = picture.shape[-2:]
        video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (width, height))
        if not video.isOpened():
            raise InputError(f"{path}: can't be written; choose another --out")
        return video
