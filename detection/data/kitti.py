"""KITTI object benchmark (Geiger et al., "Are we ready for autonomous driving?", CVPR 2012): a text file per frame."""

from pathlib import Path

from detection.data.assemble import RawBox, RawImage, ReadOptions, assemble, class_names
from detection.data.boxes import box_numbers
from detection.data.coco_objects import number_or_none
from detection.data.image_names import ImageFolder, read_names
from detection.data.problems import ProblemLog
from detection.data.records import Annotations
from odebackbones.errors import InputError

NUMBERS = (14, 15)
"""How many numbers follow the class in a line: 14 in ground truth, 15 with the score of results."""

BOX = slice(3, 7)
"""Where the box is among these numbers."""

TRUNCATED, OCCLUDED = (-1.0, 1.0), (-1.0, 4.0)
"""Ranges of the first two numbers."""


def read_kitti(
    root: Path,
    frames_file: Path | None = None,
    options: ReadOptions = ReadOptions(),  # noqa: B008
) -> Annotations:
    """Read KITTI labels; each DontCare becomes a crowd region of no class.

    Args:
        root: Folder with ``image_2`` and ``label_2``.
        frames_file: List of the frames, one id per line, e.g. ``000012``; None takes all frames in ``label_2``. An
            image's id is its frame's number or, unless all frames are numbers, its position, counted from 1.
        options: Settings of the reader; if they name no classes, those that occur are taken, sorted.
    """
    log = ProblemLog(str(frames_file or root), strict=options.strict)
    frames = all_frames(root / "label_2") if frames_file is None else read_names(frames_file, log)
    numbered = all(frame.isdecimal() for frame in frames)
    folder = ImageFolder(root / "image_2")
    images = [
        RawImage(int(frame) if numbered else position, folder.of_stem(frame), None, boxes_of(root, frame, log))
        for position, frame in enumerate(frames, start=1)
    ]
    classes = class_names(images) if options.classes is None else options.classes
    return assemble(log, images, form="kitti", classes=classes, options=options)


def all_frames(labels: Path) -> list[str]:
    """Return the frames that have labels."""
    if not labels.is_dir():
        raise InputError(f"{labels}: no such folder; --data.root must hold KITTI's label_2 and image_2")
    return sorted(file.stem for file in labels.glob("*.txt"))


def boxes_of(root: Path, frame: str, log: ProblemLog) -> list[RawBox]:
    """Read the objects of a frame; a frame without a label file has none."""
    file = root / "label_2" / f"{frame}.txt"
    if not file.is_file():
        log.report(f"{file}: no such file", "no objects", kind="frames without a label file")
        return []
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); each frame needs a label file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not a text file ({error}); download it again") from error
    boxes: list[RawBox] = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            with log.leaving_out("lines that can't be read"):
                boxes.append(box_of(line.split(), f"{file}:{number}"))
    return boxes


def box_of(fields: list[str], where: str) -> RawBox:
    """Read a line's class, which may have several words, and its box."""
    numbers = [number_or_none(value) for value in fields]
    words = next((len(fields) - i for i, value in enumerate(reversed(numbers)) if value is None), 0)
    found = [value for value in numbers[words:] if value is not None]
    if not words or len(found) not in NUMBERS:
        raise InputError(
            f"{where}: expected a class and 14 numbers (15 with a score), got {words} word(s) and {len(found)} numbers "
            f"behind; correct the line"
        )
    for value, name, (least, most) in zip(found, ("truncated", "occluded"), (TRUNCATED, OCCLUDED), strict=False):
        if not least <= value <= most:
            raise InputError(f"{where}: {name} is {value:g}, expected {least:g} to {most:g}; are columns shifted?")
    ignored = fields[0] == "DontCare"
    return RawBox(where, None if ignored else " ".join(fields[:words]), box_numbers(found[BOX], where), ignored)
