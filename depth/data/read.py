"""Reading of a config's pairs: the only module that knows all data formats."""

import re
import shlex
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from torch import Tensor

from depth.data.check import Expected, sound_pairs
from depth.data.config import DataConfig
from depth.data.depth_files import SUFFIXES
from depth.data.generated import DEPTH_FOLDER, IMAGE_FOLDER, generate_scenes
from depth.data.kitti import kitti_pair
from depth.data.records import DepthPair, DepthPairs
from depth.data.units import Unit
from depth.scenes.presets import PRESETS
from engine.images.check import refuse_other_images
from engine.images.files import has_image_suffix
from engine.log import warn
from odebackbones.errors import InputError, join_names

Split = Literal["train", "val"]

SLICE = re.compile(r"(\d*):(\d*)")


def read_pairs(
    config: DataConfig, split: Split, *, max_depth: float, cut: Callable[[Tensor], Tensor] = lambda depth: depth
) -> DepthPairs:
    """Read a split of the configured data set; generate it first if it is ``scenes``.

    Args:
        config: Settings of the data.
        split: ``"train"`` or ``"val"``.
        max_depth: The model's greatest depth [m], by which depth maps in a unit other than the config's are recognized.
        cut: Takes the part of a depth map that is evaluated; raises an InputError for a map without this part.

    Raises:
        InputError: There are no pairs, two have the same name, or :func:`~depth.data.check.sound_pairs` refuses them.
    """
    name, pairs = READERS[config.format](config, split)
    if not pairs:
        raise InputError(f"{name}: no pairs of an image and a depth map; look at data.root, data.{split} and the lists")
    found = DepthPairs(name, pairs, unit_of(config), exif=config.exif)
    if repeated := [name for name, count in Counter(pair.name for pair in pairs).items() if count > 1]:
        raise InputError(f"{name}: {len(repeated)} images are there twice, {repeated[0]} and others; leave one out")
    wanted = Expected(max_depth, cut, check_unit=config.check_unit)
    return sound_pairs(found, wanted, strict=config.strict, verify=config.verify)


def unit_of(config: DataConfig) -> Unit:
    """Return the unit of the depth maps: the config's, or for generated scenes the preset's."""
    return PRESETS[config.scenes.preset].unit if config.format == "scenes" else config.unit


def require_apart(train: DepthPairs, val: DepthPairs) -> None:
    """Refuse splits that have images in common.

    Raises:
        InputError: The splits share images.
    """
    if common := {pair.image for pair in train.pairs} & {pair.image for pair in val.pairs}:
        raise InputError(
            f"{len(common)} images are in both splits, such as {min(common)}: set data.train and data.val apart, to "
            f"lists, folders or slices such as :800 and 800:"
        )


def _scenes(config: DataConfig, split: Split) -> tuple[str, tuple[DepthPair, ...]]:
    scenes = config.scenes
    images, seed = {"train": (scenes.train_images, scenes.seed), "val": (scenes.val_images, scenes.seed + 1)}[split]
    height, width = scenes.size
    refuse_other_images(Path(config.root), generated="scenes", formats=("folder", "kitti"))
    folder = Path(config.root) / f"{scenes.preset}_{split}_{images}x{height}x{width}px_seed{seed}"
    generate_scenes(folder, preset=scenes.preset, images=images, size=scenes.size, seed=seed)
    return str(folder), pair_files(folder / IMAGE_FOLDER, folder / DEPTH_FOLDER)


def _folder(config: DataConfig, split: Split) -> tuple[str, tuple[DepthPair, ...]]:
    root, value = _root(config.root, "data.root"), getattr(config, split)
    if found := SLICE.fullmatch(value):
        start, stop = (int(bound) if bound else None for bound in found.groups())
        pairs = pair_files(root / config.rgb, root / config.depth)
        if not pairs[start:stop]:
            raise InputError(f"data.{split}={value!r}: {root} has {len(pairs)} pairs, and none in this slice")
        return f"{root} [{value}]", pairs[start:stop]
    if (root / value).is_dir():
        return str(root / value), pair_files(root / value / config.rgb, root / value / config.depth)
    depth_root = _root(config.depth_root or config.root, "data.depth_root")
    return read_list(root / value, root, lambda line: (root / line[0], depth_root / line[1]))


def _kitti(config: DataConfig, split: Split) -> tuple[str, tuple[DepthPair, ...]]:
    root, value = _root(config.root, "data.root"), getattr(config, split)
    if not value:
        raise InputError(f"data.{split} is empty; kitti needs a split file there, such as Eigen's")
    depth_root = _root(config.depth_root or config.root, "data.depth_root")
    return read_list(root / value, root, lambda line: kitti_pair(line, root, depth_root))


READERS: dict[str, Callable[[DataConfig, Split], tuple[str, tuple[DepthPair, ...]]]] = {
    "scenes": _scenes,
    "folder": _folder,
    "kitti": _kitti,
}


def pair_files(images: Path, depths: Path) -> tuple[DepthPair, ...]:
    """Pair the images of a folder with the depth maps of the same names, in the order of the images' names.

    Raises:
        InputError: A folder is missing, or an image has no depth map.
    """
    for folder in (images, depths):
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; set data.root, data.rgb and data.depth")
    maps = depth_files(depths)
    found = sorted(file for file in images.iterdir() if has_image_suffix(file) and not file.name.startswith("."))
    if missing := [file.name for file in found if file.stem not in maps]:
        raise InputError(
            f"{images}: {len(missing)} images have no depth map of their name in {depths}: {join_names(missing)}; "
            f"leave them out, or give a list of pairs as data.train and data.val"
        )
    return tuple(DepthPair(file.stem, file, maps[file.stem]) for file in found)


def depth_files(folder: Path) -> dict[str, Path]:
    """Return name without suffix -> depth map of a folder; of several with one name, the most precise one."""
    files = [f for f in sorted(folder.iterdir()) if f.suffix.lower() in SUFFIXES and not f.name.startswith(".")]
    found = {f.stem: f for f in sorted(files, key=lambda f: SUFFIXES.index(f.suffix.lower()))}
    if doubles := len(files) - len(found):
        endings = ", ".join(sorted({f.suffix for f in found.values()}))
        warn(f"{folder}: {doubles} files have the name of another; {endings} are read")
    return found


def read_list(
    file: Path, root: Path, locate: Callable[[list[str]], tuple[Path, Path] | None]
) -> tuple[str, tuple[DepthPair, ...]]:
    """Return a text file's name and the pairs that it lists, one per line.

    Args:
        file: File of lines ``IMAGE DEPTH ...``, or TUM's ``TIME IMAGE TIME DEPTH``; what follows, such as a focal
            length, is ignored, and so are comments (``#``) and lines whose depth is ``None``, as in Eigen's list of
            KITTI's test images.
        root: Root folder of the images; their names are relative to it.
        locate: Maps a line's words to the two files, or to None to skip the line.
    """
    if not file.is_file():
        raise InputError(f"{file}: no such list, folder, or slice like :80; set data.train and data.val")
    pairs, without = [], 0
    for number, line in enumerate(file.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        words = [word.lstrip("/") if not Path(word).exists() else word for word in words_of(line)]
        if len(words) < 2:
            raise InputError(f"{file}, line {number}: expected IMAGE DEPTH, got {line!r}")
        try:
            located = None if words[1] == "None" else locate(words)
        except ValueError as error:
            raise InputError(f"{file}, line {number}: {error}, got {line!r}") from error
        if located is None:
            without += 1
        else:
            pairs.append(DepthPair(name_in(located[0], root), *located))
    if without:
        warn(f"{file}: {without} images have no depth map, and are left out")
    return str(file), tuple(pairs)


def words_of(line: str) -> list[str]:
    """Split a line into words: spaces are kept within quotes, and backslashes of Windows paths become slashes."""
    line = line.replace("\\", "/")
    words = shlex.split(line) if line.count('"') > 1 else line.split()
    is_tums = len(words) == 4 and is_number(words[0]) and is_number(words[2]) and not is_number(words[3])
    return [words[1], words[3]] if is_tums else words


def is_number(word: str) -> bool:
    """Whether a word is a number."""
    return word.replace(".", "", 1).isdecimal()


def name_in(image: Path, root: Path) -> str:
    """Return the image's path below ``root``, without its suffix, as one word."""
    place = image.relative_to(root) if image.is_relative_to(root) else image
    return re.sub(r"[/\\]+", "_", str(place.with_suffix("")).strip("/\\"))


def _root(folder: str, setting: str) -> Path:
    if not Path(folder).is_dir():
        raise InputError(f"{folder}: no such folder; set {setting}")
    return Path(folder)
