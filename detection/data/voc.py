"""PASCAL VOC (Everingham et al., "The PASCAL Visual Object Classes Challenge", IJCV 2010): one XML file per image."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from detection.data.assemble import RawBox, RawImage, ReadOptions, assemble, class_names
from detection.data.boxes import Box, box_numbers
from detection.data.coco_objects import flag, number_or_none
from detection.data.image_names import ImageFolder, read_names
from detection.data.problems import ProblemLog
from detection.data.records import Annotations
from odebackbones.errors import InputError

DECLARED = re.compile(rb"""<\?xml[^>]*encoding=["']([\w.-]+)["'][^>]*\?>""")
"""An XML declaration with its encoding."""


def read_voc(root: Path, image_set: str, options: ReadOptions = ReadOptions()) -> Annotations:  # noqa: B008
    """Read a VOC image set; objects marked difficult become crowd regions.

    Args:
        root: Folder with ``ImageSets/Main``, ``Annotations`` and ``JPEGImages``; or with folders of images and XML
            files side by side, as LabelImg and Roboflow write them.
        image_set: Name of a list in ``ImageSets/Main``, e.g. ``"train"``, or of such a folder in ``root`` (``"."`` for
            ``root`` itself). An image's id is its position there, counted from 1.
        options: Settings of the reader; if they name no classes, those that occur are taken, sorted.
    """
    set_file, folder = root / "ImageSets" / "Main" / f"{image_set}.txt", root / image_set
    if set_file.is_file():
        log = ProblemLog(str(set_file), strict=options.strict)
        names, images, labels = read_names(set_file, log), ImageFolder(root / "JPEGImages"), root / "Annotations"
    elif folder.is_dir():
        log = ProblemLog(str(folder), strict=options.strict)
        images, labels = ImageFolder(subfolder(folder, "JPEGImages")), subfolder(folder, "Annotations")
        names = sorted({*images.by_stem, *(file.stem for file in labels.glob("*.xml"))})
    else:
        raise InputError(
            f"{set_file}: no such file; it must list the split's images, one name a line; nor is there a folder "
            f"{folder} of images and XML files"
        )
    raw: list[RawImage] = []
    for position, name in enumerate(names, start=1):
        with log.leaving_out("annotation files that can't be read"):
            raw.append(image_of(images, labels, name, position, log))
    classes = class_names(raw) if options.classes is None else options.classes
    return assemble(log, raw, form="voc", classes=classes, options=options)


def subfolder(folder: Path, name: str) -> Path:
    """Return the sub-folder of this name, or the folder itself if it has none."""
    return folder / name if (folder / name).is_dir() else folder


def image_of(images: ImageFolder, labels: Path, name: str, image_id: int, log: ProblemLog) -> RawImage:
    """Return an image with the objects of its XML file; without such a file it has no objects."""
    file = labels / f"{name}.xml"
    if not file.is_file():
        log.report(f"{file}: no such file", "no objects", kind="images without an annotation file")
        return RawImage(image_id, images.of_stem(name), None, [])
    tree = parse(file)
    size = tree.find("size")
    recorded = None if size is None else recorded_size(size)
    boxes: list[RawBox] = []
    for i, element in enumerate(tree.findall("object"), start=1):
        with log.leaving_out("objects that can't be read"):
            boxes.append(box_of(element, f"{file}: object {i}"))
    return RawImage(image_id, images.of_stem(name, named=tree.findtext("filename") or ""), recorded, boxes)


def parse(file: Path) -> ElementTree.Element:
    """Read an annotation file in its declared encoding, and check that it is VOC's."""
    try:
        tree = ElementTree.fromstring(text_of(file.read_bytes()))
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); each image of the set needs one") from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputError(f"{file}: malformed XML ({error}); correct the file or download it again") from error
    for element in tree.iter():
        if isinstance(element.tag, str):  # not a comment; its namespace and case are dropped
            element.tag = element.tag.rpartition("}")[2].lower()
    if tree.tag != "annotation":
        raise InputError(f"{file}: expected VOC's <annotation>, got <{tree.tag}>; give a VOC annotation file")
    return tree


def text_of(content: bytes) -> str:
    """Decode an XML file, without its declaration: Python's parser knows only UTF-8 and -16 as multi-byte encodings."""
    declared = DECLARED.search(content[:200])
    if declared is None:
        return content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    text = content.decode("utf-8-sig" if declared[1].lower().replace(b"-", b"") == b"utf8" else declared[1].decode())
    return text[text.index("?>") + 2 :]


def box_of(element: ElementTree.Element, where: str) -> RawBox:
    """Read an object with its box."""
    bndbox = element.find("bndbox")
    name = (element.findtext("name") or "").strip()
    if bndbox is None or not name:
        raise InputError(f"{where}: lacks <{'bndbox' if name else 'name'}>; add it or remove the object")
    numbers = box_numbers([bndbox.findtext(tag) for tag in ("xmin", "ymin", "xmax", "ymax")], where)
    difficult = (element.findtext("difficult") or "").strip()
    crowd = flag(difficult, f"{where}: <difficult>") if difficult not in ("", "Unspecified") else False
    return RawBox(where, name, zero_based(numbers), crowd)


def zero_based(numbers: Box) -> Box:
    """Convert VOC's 1-based inclusive pixels to 0-based corners.

    Equal pixels are taken for a slip of the mouse, not for an object one pixel wide: the extent stays zero.
    """
    (x1, x2), (y1, y2) = ((a - 1, b if b > a else b - 1) for a, b in zip(numbers[:2], numbers[2:], strict=True))
    return x1, y1, x2, y2


def recorded_size(size: ElementTree.Element) -> tuple[int, int] | None:
    """Return width and height [px], or None if they are not valid, such as 0."""
    width, height = (number_or_none(size.findtext(side)) for side in ("width", "height"))
    return (int(width), int(height)) if width and height and min(width, height) > 0 else None
