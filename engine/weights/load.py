"""Loading of a network by its timm name, with the weights of a file."""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import timm
from safetensors import SafetensorError
from torch import nn

from engine.weights.pretrained import load_matching_weights
from odebackbones.errors import InputError, join_names, unknown_name

ORIGIN = ("tag", "url", "hf_hub_id", "file", "origin_url", "license", "paper_ids", "paper_name", "source")
"""What timm's configuration says of the weights that come with a name, and not of those in a user's file."""


def load_network(name: str, *, checkpoint: Path | None = None, **sizes: Any) -> nn.Module:
    """Build the model with its weights.

    Args:
        name: timm name of the model.
        checkpoint: Weight file of the model; None for the weights that come with the name.
        **sizes: Sizes of the model, under timm's names.

    Raises:
        InputError: The model is unknown or has no ODE counterpart, or the weights belong to another model.
    """
    if ":" not in name:
        require_counterpart(name.split(".")[0])
    if checkpoint and not checkpoint.is_file():
        raise InputError(f"--checkpoint {checkpoint}: no such file")
    try:
        model = timm.create_model(name, pretrained=checkpoint is None, **sizes)
    except InputError:
        raise
    except (RuntimeError, ValueError, OSError, EOFError, UnpicklingError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{name} can't be made with the weights that come with the name: {reason}") from error
    if checkpoint:
        take_all(model, name, checkpoint)
        forget_origin(model)
    return model


def forget_origin(model: Any) -> None:
    """Remove from timm's configuration of the model where its published weights are from."""
    kept = {key: value for key, value in model.pretrained_cfg.items() if key not in ORIGIN}
    model.pretrained_cfg = model.default_cfg = kept


def take_all(model: nn.Module, name: str, checkpoint: Path) -> None:
    """Load all weights of the model, whatever prefix their names have in the file.

    Raises:
        InputError: The file lacks some weights, or is of another network; the message names the differences.
    """
    record, own = load_matching_weights(model, str(checkpoint), setting="--checkpoint"), model.state_dict()
    options = {"conv1.weight": "--in-chans", "fc.weight": "--num-classes"}
    for key, shape in record.reshaped.items():
        hint = f"; set {options[key]}" if key in options else "; is it of another network?"
        if shape == own[key].shape:  # a norm with statistics per time
            hint = "; it has statistics at other times: it was trained with other steps"
        raise InputError(
            f"--checkpoint {checkpoint}: {key} is {list(shape)} in it and {list(own[key].shape)} in {name}{hint}"
        )
    if missing := [key for key in record.new if not key.endswith("num_batches_tracked")]:
        hint = "; --num-classes 0 leaves the classifier out" if missing[0].startswith("fc.") else ""
        instead = f"; it has {join_names(record.unused)} instead" if record.unused else ""
        raise InputError(f"--checkpoint {checkpoint}: lacks {join_names(missing)} of {name}{instead}{hint}")
    prefix = f"{record.prefix}." if record.prefix else ""
    children = tuple(f"{prefix}{child}." for child, _ in model.named_children() if child != "fc")
    if deeper := [key for key in record.unused if key.startswith(children)]:
        raise InputError(
            f"--checkpoint {checkpoint}: has also {join_names(deeper)}, which {name} lacks: it belongs to a deeper "
            f"network"
        )
    if record.unused:
        print(f"not used: {join_names(record.unused)} of {checkpoint}")


def require_counterpart(architecture: str) -> None:
    """Refuse a model without an ODE counterpart, before anything is downloaded."""
    if not timm.is_model(architecture):
        raise unknown_name("model", architecture, timm.list_models())
    if not timm.is_model(f"ode_{architecture}") and not architecture.startswith("ode_"):
        known = sorted(name.removeprefix("ode_") for name in timm.list_models("ode_*resne*"))
        raise InputError(
            f"{architecture}: no ODE model takes its place in timm's registry, only those of {', '.join(known)}; "
            f"odebackbones.from_resnet converts other ResNets, too"
        )
