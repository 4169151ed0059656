"""Weights of a trained network as the start of another, such as a classifier's for a detector's backbone."""

import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from timm.models import load_state_dict
from torch import Tensor, nn

from engine.report.records import model_label
from engine.weights.checkpoint import BEST, first_line, is_pickled, load_checkpoint
from odebackbones.errors import InputError, join_names
from odebackbones.old_names import current_names

IN_FOLDERS = (BEST, "model.safetensors", "pytorch_model.bin")
"""Weight files in a run's folder, or in a folder in timm's format."""

PREFIXED = 0.25
"""Smallest share of a network's weights that must be found under a prefix."""

NODES = ".norms."
"""Text before the number of a node, in the names of statistics per time."""


@dataclass(frozen=True)
class WeightTransfer:
    """Record of which weights (and buffers) a network was given, and which not.

    Attributes:
        file: File that the weights came from.
        taken: Names of the weights that were taken from the file.
        new: Names that the file lacks; these weights stay as they were.
        reshaped: Names that the file has in another shape, with that shape; these weights stay as they were.
        unused: Names in the file that the network lacks.
        network: Network of the file, with its arguments; empty if the file doesn't say.
        prefix: Prefix of the names of the taken weights in the file.
    """

    file: str
    taken: list[str]
    new: list[str]
    reshaped: dict[str, tuple[int, ...]]
    unused: list[str]
    network: str = ""
    prefix: str = ""

    def __str__(self) -> str:
        shapes = [f"{name} {'x'.join(map(str, shape))}" for name, shape in self.reshaped.items()]
        names = {"not in it": self.new, "of another shape in it": shapes, "not used": self.unused}
        rest = "; ".join(f"{len(found)} {what} ({join_names(found)})" for what, found in names.items() if found)
        total = len(self.taken) + len(self.new) + len(self.reshaped)
        origin = f"{self.file} ({self.network})" if self.network else self.file
        return f"{origin}: {len(self.taken)} of {total} tensors taken" + (f"; {rest}" if rest else "")


def load_matching_weights(network: nn.Module, file: str, *, setting: str) -> WeightTransfer:
    """Give a network the weights of a file, where names and shapes agree.

    Args:
        network: A timm model, or its feature extractor; changed in place. It keeps the record as ``weight_transfer``,
            because functions that build models on it return only the model (:func:`find_weight_transfer`).
        file: A run's folder or its ``best.pt``, of any task, or weights with timm's names (``.safetensors``, or a torch
            file with tensors only).
        setting: Name of the setting in error messages.

    Raises:
        InputError: The file can't be read, or has none of the network's weights.
    """
    (weights, origin), own = read_weights(file, setting=setting), network.state_dict()
    if not origin:
        weights = by_own_names(weights, network)
    prefix, source = source_names(weights, own)
    counts = nodes_of(own), nodes_of(weights)
    taken = {
        name: weights[found]
        for name, found in source.items()
        if weights[found].shape == own[name].shape and counts[0][node_prefix(name)] == counts[1][node_prefix(found)]
    }
    if not taken:
        raise InputError(
            f"{setting}={file!r}: has none of the network's weights, such as {join_names(list(own))}, but those of "
            f"{origin or 'another network'}, such as {join_names(list(weights))}"
        )
    network.load_state_dict({**own, **taken})
    used = set(source.values())
    record = WeightTransfer(
        file,
        taken=list(taken),
        new=[name for name in own if name not in source],
        reshaped={name: tuple(weights[found].shape) for name, found in source.items() if name not in taken},
        unused=[name for name in weights if name not in used],
        network=origin,
        prefix=prefix,
    )
    network.weight_transfer = record  # pyright: ignore[reportArgumentType]
    return record


def by_own_names(weights: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Rename another program's weights to the network's names, if the network's timm module can read them."""
    convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    return weights if convert is None else convert(weights, network)


def read_weights(file: str, *, setting: str) -> tuple[dict[str, Tensor], str]:
    """Read a file's tensors by name, from its moving average if it has one, and the network they belong to.

    Args:
        file: Weight file, or a folder: a run's, whose best weights are read, or one from tools/convert.py or timm.
        setting: Name of the setting in error messages.

    Raises:
        InputError: The file is missing, damaged, or holds code.
    """
    path = Path(file)
    if path.is_dir():
        path = next((path / name for name in IN_FOLDERS if (path / name).is_file()), path / BEST)
    if not path.is_file():
        expected = "expected true, false, a run's folder or its best.pt, or timm's weights"
        raise InputError(f"{setting}={file!r}: no file {path}; {expected}")
    try:
        ours = load_checkpoint(path)
    except InputError:
        return read_timms_weights(path, setting=setting), ""
    return ours.get("ema") or ours["model"], trained_network(ours["config"])


def read_timms_weights(path: Path, *, setting: str) -> dict[str, Tensor]:
    """Read the tensors of a file that is not a checkpoint of ours."""
    try:
        weights = load_state_dict(str(path), weights_only=True)
    except Exception as error:  # torch and safetensors raise errors of any type on arbitrary bytes
        if is_pickled(path) and UnpicklingError in (type(error), type(error.__cause__)):
            raise InputError(
                f"{setting}={str(path)!r}: holds more than tensors, such as a whole model; load it where its code is, "
                f"and save model.state_dict()"
            ) from error
        raise InputError(f"{setting}={str(path)!r}: no weights, or damaged ones ({first_line(error)})") from error
    return current_names({name: value for name, value in weights.items() if isinstance(value, Tensor)})


def trained_network(config: Mapping[str, Any]) -> str:
    """Return the network, or backbone, that a run's configuration names, with its arguments."""
    model: Mapping[str, Any] = config["model"]
    return model_label(model["backbone"], model["backbone_args"])


def source_names(weights: Iterable[str], own: Iterable[str]) -> tuple[str, dict[str, str]]:
    """Find the prefix under which a file has most of a network's weights, and map the network's names to the file's.

    Prefixes come from detectors, depth models, Lightning (``model.``), mmcv (``backbone.``), MoCo (``encoder_q.``), ...
    """
    weights, wanted = list(weights), {canonical_name(name): name for name in own}
    found: dict[str, dict[str, str]] = {"": {}}
    for name in weights:
        parts = name.split(".")
        for start in range(len(parts)):
            if (rest := canonical_name(".".join(parts[start:]))) in wanted:
                found.setdefault(".".join(parts[:start]), {})[wanted[rest]] = name
    enough = PREFIXED * len(wanted)  # fewer may have the same names by chance
    able = {prefix: names for prefix, names in found.items() if not prefix or len(names) >= enough}
    prefix = max(able, key=lambda prefix: len(able[prefix]))
    return prefix, able[prefix]


def canonical_name(name: str) -> str:
    """Return a weight's name, the same in a model and in its feature extractor, where timm joins some names by "_"."""
    return name.replace(".", "_")


def node_prefix(name: str) -> str:
    """Return the norm with statistics per time to which a node's tensor belongs; empty for other tensors."""
    return name.rpartition(NODES)[0]


def nodes_of(names: Iterable[str]) -> Counter[str]:
    """Count the nodes of each norm: a network can't use statistics at times other than its own."""
    found = Counter(node_prefix(name) for name in names if name.endswith(".running_mean"))
    del found[""]
    return found


def find_weight_transfer(model: nn.Module) -> WeightTransfer | None:
    """Return the record of the weights that a part of ``model`` was given, if any."""
    found: list[Any] = [module.weight_transfer for module in model.modules() if hasattr(module, "weight_transfer")]
    return found[0] if found else None
