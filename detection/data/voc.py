"""PASCAL VOC (Everingham et al., "The PASCAL Visual Object Classes Challenge", IJCV 2010): one XML file an image."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

from odebackbones.errors import InputError

from .assemble import RawBox, RawImage, assemble, class_names, read_names
from .boxes import Box, box_numbers, finite_number
from .find_image import find_image
from .problems import ProblemLog
from .records import Annotations


def read_voc(
    root: Path,
    image_set: str,
    *,
    strict: bool = False,
    verify: bool = True,
    classes: Sequence[str] | None = None,
) -> Annotations:
    """Read a VOC image set; objects marked difficult become crowd regions.

    Args:
        root: Holds ``ImageSets/Main``, ``Annotations`` and ``JPEGImages``.
        image_set: Name of a list in ``ImageSets/Main``, e.g. ``"train"``. An image's id is its position there, from 1.
        strict: Refuse what could be repaired.
        verify: Decode every image, not its header only.
        classes: Names in the order of the labels; None: those that occur, sorted.
    """
    set_file = root / "ImageSets" / "Main" / f"{image_set}.txt"
    images = [_image(root, name, position) for position, name in enumerate(read_names(set_file), start=1)]
    names = class_names(images) if classes is None else classes
    return assemble(ProblemLog(str(set_file), strict=strict), images, classes=names, verify=verify)


def _image(root: Path, name: str, image_id: int) -> RawImage:
    file = root / "Annotations" / f"{name}.xml"
    tree = _parse(file)
    size = tree.find("size")
    recorded = None if size is None else (_pixels(size, "width", file), _pixels(size, "height", file))
    boxes = [_box(element, f"{file}: object {i}") for i, element in enumerate(tree.findall("object"), start=1)]
    return RawImage(image_id, find_image(root / "JPEGImages", name), recorded, boxes)


def _parse(file: Path) -> ElementTree.Element:
    """Read an annotation file and check that it is VOC's."""
    try:
        tree = ElementTree.parse(file).getroot()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); each image of the set needs one") from error
    except (ElementTree.ParseError, ValueError) as error:
        raise InputError(f"{file}: malformed XML ({error}); correct the file or download it again") from error
    if tree.tag != "annotation":
        raise InputError(f"{file}: expected VOC's <annotation>, got <{tree.tag}>; give a VOC annotation file")
    return tree


def _box(element: ElementTree.Element, where: str) -> RawBox:
    bndbox = element.find("bndbox")
    name = (element.findtext("name") or "").strip()
    if bndbox is None or not name:
        raise InputError(f"{where}: lacks <{'bndbox' if name else 'name'}>; add it or remove the object")
    numbers = box_numbers([bndbox.findtext(tag) for tag in ("xmin", "ymin", "xmax", "ymax")], where)
    crowd = (element.findtext("difficult") or "").strip() == "1"
    return RawBox(where, name, _zero_based(numbers), crowd)


def _zero_based(numbers: Box) -> Box:
    """Turn VOC's 1-based inclusive pixels into 0-based corners.

    Equal pixels stand for a slip of the mouse and not for an object one pixel wide: they keep a zero extent.
    """
    (x1, x2), (y1, y2) = ((a - 1, b if b > a else b - 1) for a, b in zip(numbers[:2], numbers[2:], strict=True))
    return x1, y1, x2, y2


def _pixels(size: ElementTree.Element, tag: str, file: Path) -> int:
    return int(finite_number(size.findtext(tag), f"{file}: <size><{tag}>"))
