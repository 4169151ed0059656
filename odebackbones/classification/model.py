"""The network of a classification run."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from odebackbones.engine.timm_models import PlainValue, create, require_free, require_model
from odebackbones.errors import InputError


@dataclass(frozen=True)
class ModelConfig:
    """Which network, and where its weights come from.

    Args:
        name: Any timm model: ``ode_resnet50``, ``resnet50``, ...
        args: Arguments of ``timm.create_model``, e.g. ``{solver: heun, steps: 4}``.
        pretrained: Start from timm's pretrained weights (downloads them).
        checkpoint: Start from this file of weights (``.safetensors``, or torch's of tensors only) for this very
            network, such as the ``model.safetensors`` that ``tools/convert.py`` writes.
    """

    name: str = "ode_resnet50"
    args: dict[str, PlainValue] = field(default_factory=dict)
    pretrained: bool = False
    checkpoint: str = ""

    def __post_init__(self) -> None:
        require_free("model.args", self.args)
        if self.pretrained and self.checkpoint:
            raise InputError("model.pretrained and model.checkpoint: take one of them")


def build_classifier(config: ModelConfig, *, setting: str, num_classes: int, loaded: bool = False) -> nn.Module:
    """The network that ``config`` names.

    Args:
        config: Name, arguments, weights.
        setting: What errors call it: ``model``, ``distillation.teacher``, ...
        num_classes: Classes.
        loaded: Leave the weights random, as others will be loaded.

    Raises:
        InputError: timm doesn't know it, or the weights are another's.
    """
    require_model(config.name, what=setting)
    kwargs: dict[str, Any] = {"num_classes": num_classes, "pretrained": config.pretrained and not loaded}
    if config.checkpoint and not loaded:
        if not Path(config.checkpoint).is_file():
            raise InputError(f"{setting}.checkpoint={config.checkpoint!r}: no such file")
        overlay = {"file": config.checkpoint, "num_classes": num_classes}  # else timm leaves the classifier out
        kwargs |= {"pretrained": True, "pretrained_cfg_overlay": overlay}
    return create(setting, config.name, config.args, **kwargs)
