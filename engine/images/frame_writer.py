"""Pictures of frames as files: stills under their own names, frames of a video as one video."""

from pathlib import Path
from typing import Self

import cv2
import numpy as np
from torch import Tensor
from torch.nn import functional

from engine.images.media import Frame
from engine.log import warn
from odebackbones.errors import InputError

STILLS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
"""Suffixes that OpenCV writes; for any other file, the picture becomes a JPEG file with ``.jpg`` after its name."""

CODECS = {"vp09": "VP9", "avc1": "H.264", "mp4v": "MPEG-4"}
"""OpenCV's code -> the codec's name; codecs that browsers play come first."""

UNPLAYED = "mp4v"
"""Code of the codec that browsers don't play."""


def picture_name(name: str) -> str:
    """Return the file name for the picture of an image file."""
    return name if Path(name).suffix.lower() in STILLS else f"{name}.jpg"


class FrameWriter:
    """Writer of pictures of frames.

    Args:
        folder: Existing folder to write to.
        video_name: Stem of the video's file name.
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
            InputError: The picture can't be written, or differs in size from the video's first frame.
        """
        if frame.video_fps is None:
            path = self.folder / picture_name(frame.name)
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
        """Open an MP4 file for pictures of ``size`` (width, height) [px], with the first codec that is available."""
        if self.folder.is_dir():
            for code, codec in CODECS.items():
                video = cv2.VideoWriter(str(self.video_path), cv2.VideoWriter.fourcc(*code), fps, size)
                if video.isOpened():
                    if code == UNPLAYED:
                        warn(
                            f"{self.video_path}: in {codec}, which browsers don't play; this OpenCV has no other codec"
                        )
                    return video
        raise InputError(f"{self.video_path}: can't be written; choose another --out")


def to_array(image: Tensor) -> np.ndarray:
    """Convert ``(3, H, W)`` RGB to OpenCV's ``(H, W, 3)`` BGR, uint8."""
    return np.ascontiguousarray(image.permute(1, 2, 0).numpy()[..., ::-1])


def even_sides(picture: Tensor) -> Tensor:
    """Pad ``(3, H, W)`` to even sides, which the video codec needs, by repeating the last row or column."""
    height, width = picture.shape[-2:]
    padded = functional.pad(picture.float()[None], (0, width % 2, 0, height % 2), mode="replicate")
    return padded[0].to(picture.dtype)
