"""Files behind the names in a data set: lists of names, and images by their stem or by another tool's path."""

from collections import Counter, defaultdict
from functools import cached_property
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from detection.data.problems import ProblemLog
from engine.images.files import IMAGE_SUFFIXES, has_image_suffix
from odebackbones.errors import InputError

FLAGS = ("  1", "  0", " -1")
"""Flags after the names in VOC's per-class lists: two spaces and 0 or 1, or one space and -1."""


class ImageFolder:
    """The images of a folder, found by the names that annotations give them.

    Args:
        folder: Folder of the images; a missing folder has no images.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def by_stem(self) -> dict[str, list[Path]]:
        """File name without its ending -> images of this name."""
        found: dict[str, list[Path]] = defaultdict(list)
        for file in sorted(self.folder.iterdir()) if self.folder.is_dir() else ():
            if has_image_suffix(file) and not file.name.startswith("."):
                found[file.stem].append(file)
        return dict(found)

    @cached_property
    def by_name(self) -> dict[str, list[Path]]:
        """File name in lower case -> images of this name, also in sub-folders."""
        found: dict[str, list[Path]] = defaultdict(list)
        for file in sorted(self.folder.rglob("*")):
            if has_image_suffix(file) and not file.name.startswith("."):
                found[file.name.lower()].append(file)
        return dict(found)

    def of_stem(self, stem: str, *, named: str = "") -> Path:
        """Return the image ``stem`` with any ending; if there are several, the one ``named`` in the annotation.

        Raises:
            InputError: There are several, and none is the named one.
        """
        direct = self.folder / stem  # the stem may include a sub-folder
        endings = [ending for suffix in IMAGE_SUFFIXES for ending in (suffix, suffix.upper())]
        found = self.by_stem.get(stem, []) or [direct.with_name(direct.name + ending) for ending in endings]
        found = [file for file in found if file.is_file()]
        if len(found) > 1:
            found = [file for file in found if file.name == named] or found
        if len(found) > 1:
            names = " and ".join(file.name for file in found)
            raise InputError(f"{self.folder}: {names} are both the image of {stem!r}; move one away")
        return found[0] if found else self.folder / f"{stem}.*"

    def of_name(self, name: str, log: ProblemLog, where: str) -> Path:
        """Return the image that a ``file_name`` means: as written, or as a path of another system or folder."""
        path = self.folder / name
        if path.is_file():
            return path
        plain = unquote(name.replace("\\", "/"))
        for spelling in (plain, plain.lstrip("/")):
            if (self.folder / spelling).is_file():
                log.report(f"{where}: file_name {name!r}", f"read as {spelling!r}", kind=SPELT)
                return self.folder / spelling
        last = PurePosixPath(plain).name
        found = self.by_name.get(last.lower(), []) or self.by_stem.get(last, [])
        if len(found) == 1:
            log.report(f"{where}: file_name {name!r}", "found by the last part of its path", kind=SPELT)
            return found[0]
        return path


SPELT = "file names that are not below the image folder as they are written"


def missing(path: Path) -> str:
    """Describe the fault of an image that is not there."""
    if path.suffix == ".*":
        return f"no such image (looked for {', '.join(IMAGE_SUFFIXES)}, in any case)"
    return "image file is missing"


def read_lines(file: Path, *, what: str) -> list[str]:
    """Read the lines of a list that are neither empty nor a comment (``#``), without a byte order mark.

    Args:
        file: File with the list.
        what: What the file must be, for error messages.
    """
    if not file.is_file():
        raise InputError(f"{file}: no such file; {what}")
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not a text file ({error}); {what}") from error
    return [line.rstrip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def read_names(set_file: Path, log: ProblemLog) -> list[str]:
    """Read a list of image names, one per line, without file endings, and without folders unless only they differ."""
    lines = read_lines(set_file, what="it must list the split's images, one name a line")
    paths = [without_flag(line).replace("\\", "/") for line in lines]
    stems = [without_ending(without_flag(line)) for line in lines]
    folders: dict[str, set[PurePosixPath]] = defaultdict(set)
    for stem, path in zip(stems, paths, strict=True):
        folders[stem].add(PurePosixPath(path).parent)
    names = [
        stem if len(folders[stem]) == 1 else str(PurePosixPath(path).with_suffix(""))  # only folders tell them apart
        for stem, path in zip(stems, paths, strict=True)
    ]
    for name, count in Counter(names).items():
        if count > 1:
            log.report(f"{set_file}: {name!r} is listed {count} times", "taken once", kind="names listed twice")
    return list(dict.fromkeys(names))


def without_flag(line: str) -> str:
    """Remove VOC's flag from the end of a line; spaces within a name stay."""
    for flag in FLAGS:
        line = line.removesuffix(flag)
    return line.strip()


def without_ending(name: str) -> str:
    """Return the name of an image that may be given as a path to its file: ``JPEGImages\\a.jpg`` is ``a``."""
    path = PurePosixPath(name.replace("\\", "/"))
    known = path.suffix.lower() in (*IMAGE_SUFFIXES, ".xml", ".txt")
    return path.stem if known else path.name if "\\" in name or name.startswith("/") else name
