"""KITTI's object benchmark (Geiger et al., "Are we ready for autonomous driving?", CVPR 2012): a text file a frame."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from odebackbones.errors import InputError

from .assemble import RawBox, RawImage, assemble, class_names, read_names
from .boxes import box_numbers
from .find_image import find_image
from .problems import ProblemLog
from .records import Annotations

COLUMNS = (15, 16)
"""Fields of a label line: truth; results have a score behind it."""

BOX_COLUMNS = slice(4, 8)


def read_kitti(
    root: Path,
    frames_file: Path | None = None,
    *,
    strict: bool = False,
    verify: bool = True,
    classes: Sequence[str] | None = None,
) -> Annotations:
    """Read KITTI labels; each DontCare becomes a crowd region of no class.

    Args:
        root: Holds ``image_2`` and ``label_2``.
        frames_file: Lists the frames, one id a line, e.g. ``000012``; None: all of ``label_2``. An image's id is its
            frame's number, or its position from 1 unless all frames are numbers.
        strict: Refuse what could be repaired.
        verify: Decode every image, not its header only.
        classes: Names in the order of the labels; None: those that occur, sorted.
    """
    frames = _all_frames(root / "label_2") if frames_file is None else read_names(frames_file)
    numbered = all(frame.isdecimal() for frame in frames)
    images = [
        RawImage(int(frame) if numbered else position, find_image(root / "image_2", frame), None, _boxes(root, frame))
        for position, frame in enumerate(frames, start=1)
    ]
    names = class_names(images) if classes is None else classes
    log = ProblemLog(str(frames_file or root), strict=strict)
    return assemble(log, images, classes=names, verify=verify)


def _all_frames(labels: Path) -> list[str]:
    if not labels.is_dir():
        raise InputError(f"{labels}: no such folder; --data.root must hold KITTI's label_2 and image_2")
    return sorted(file.stem for file in labels.glob("*.txt"))


def _boxes(root: Path, frame: str) -> list[RawBox]:
    file = root / "label_2" / f"{frame}.txt"
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); each frame needs a label file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not a text file ({error}); download it again") from error
    return [_box(line.split(), f"{file}:{number}") for number, line in enumerate(lines, start=1) if line.strip()]


def _box(fields: list[str], where: str) -> RawBox:
    if len(fields) not in COLUMNS:
        raise InputError(f"{where}: expected 15 fields (16 with a score), got {len(fields)}; correct the line")
    ignored = fields[0] == "DontCare"
    return RawBox(where, None if ignored else fields[0], box_numbers(fields[BOX_COLUMNS], where), ignored)
