"""The network of a classification run."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from timm.data import resolve_data_config
from torch import nn

from engine.weights.checkpoint import BEST, LAST
from engine.weights.pretrained import load_matching_weights
from engine.weights.run_weights import load_run_weights
from engine.weights.timm_models import (
    PlainValue,
    create,
    require_free,
    require_model,
    require_published,
    warn_of_weights_left,
)
from odebackbones.errors import InputError


@dataclass(frozen=True)
class ModelConfig:
    """Which network, and where its weights come from.

    Args:
        backbone: Any timm model: ``ode_resnet50``, ``resnet50``, ...
        backbone_args: Arguments of ``timm.create_model``, e.g. ``{solver: heun, steps: 4}``.
        pretrained: Start from timm's pretrained weights (true: downloads them), or from the weights in a file that
            match the network in name and shape: a run's folder or its ``best.pt``, of any task, or weights with timm's
            names. Training and report list what was not taken, such as a classifier with another number of classes.
        checkpoint: Start from a run's folder or its ``best.pt``, of this network, or from a weight file
            (``.safetensors``, or a torch file with tensors only), written for exactly this network and these classes in
            the folders' alphabetical order, such as the ``model.safetensors`` that ``tools/convert.py`` writes.
    """

    backbone: str = "ode_resnet50"
    backbone_args: dict[str, PlainValue] = field(default_factory=dict)
    pretrained: bool | str = False
    checkpoint: str = ""

    def __post_init__(self) -> None:
        require_free(f"backbone_args of {self.backbone}", self.backbone_args)
        if self.pretrained and self.checkpoint:
            raise InputError(f"pretrained and checkpoint of {self.backbone}: take one of them")


def build_classifier(config: ModelConfig, *, setting: str, num_classes: int, loaded: bool = False) -> nn.Module:
    """Build the network that ``config`` names.

    Args:
        config: Backbone, its arguments, and its weights.
        setting: Name of the setting in error messages: ``model``, ``distillation.teacher``, ...
        num_classes: Number of classes.
        loaded: Leave the weights random, as other weights will be loaded.

    Raises:
        InputError: timm doesn't know the network, or the weights belong to another network.
    """
    require_model(config.backbone, what=setting)
    if config.pretrained is True:
        require_published(config.backbone, setting=f"{setting}.pretrained")
    kwargs: dict[str, Any] = {"num_classes": num_classes, "pretrained": config.pretrained is True and not loaded}
    if config.checkpoint and not loaded and not is_run(config.checkpoint):
        if not Path(config.checkpoint).is_file():
            raise InputError(f"{setting}.checkpoint={config.checkpoint!r}: no such file")
        overlay = {"file": config.checkpoint, "num_classes": num_classes}  # otherwise timm leaves out the classifier
        kwargs |= {"pretrained": True, "pretrained_cfg_overlay": overlay}
        setting = f"{setting} (with the weights of {config.checkpoint}: another network's, or of other classes?)"
    if not loaded:
        warn_of_weights_left(setting, config.backbone, config.pretrained or config.checkpoint)
    model = create(setting, config.backbone, config.backbone_args, **kwargs)
    if config.checkpoint and not loaded and is_run(config.checkpoint):
        load_run_weights(model, config.checkpoint, task="classification")
    if isinstance(config.pretrained, str) and not loaded:
        load_matching_weights(model, config.pretrained, setting=f"{setting}.pretrained")
    return model


def is_run(path: str) -> bool:
    """Whether a path is a run's folder, or a weight file of a run."""
    return bool(path) and (Path(path).is_dir() or Path(path).name in (BEST, LAST))


def input_config(config: ModelConfig, *, image_size: int | None = None) -> dict[str, Any]:
    """Return timm's description of the network's input: ``input_size`` (C, H, W), ``mean``, ``std``, ``crop_pct``, ...

    Args:
        config: The network.
        image_size: Side of the images [px], instead of the network's own.
    """
    with torch.device("meta"):
        model = build_classifier(config, setting="model", num_classes=2, loaded=True)
    found = resolve_data_config(dict(config.backbone_args), model=model)
    channels, *size = found["input_size"]
    channels: Any = config.backbone_args.get("in_chans", channels)
    if image_size is not None:
        size = [image_size, image_size]
    mean, std = (
        found[name] if len(found[name]) == channels else channels * (sum(found[name]) / len(found[name]),)
        for name in ("mean", "std")
    )
    return {**found, "input_size": (channels, *size), "mean": mean, "std": std}
