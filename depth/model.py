"""Monocular depth over any timm backbone: features, a decoder, a head with bounded range."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from depth.decoders import DECODERS
from depth.heads import HEADS
from engine.weights.checkpoint import load_checkpoint, load_weights
from engine.weights.timm_models import PlainValue, create_features, feature_levels, require_free, warn_of_weights_left
from odebackbones.errors import InputError, unknown_name


@dataclass(frozen=True)
class ModelConfig:
    """The depth model: which backbone, and what stands on it.

    Args:
        backbone: Any timm model with feature maps: ``ode_vgg16_bn``, ``vgg16_bn``, ``ode_resnet101``, ...
        backbone_args: Arguments of ``timm.create_model``, e.g. ``{solver: heun, steps: 4}``.
        pretrained: Start from timm's pretrained weights of the backbone (true: downloads them), or from weights of its
            name and shape in a file: a run's folder or its ``best.pt``, of any task, or weights by timm's names.
            Training and report say what was not taken.
        checkpoint: Start from the weights of another depth run: its ``best.pt``, of the same model.
        decoder: ``skip``, light, to stride 2; or ``fusion``, as DPT's, to stride 4.
        decoder_width: Channels of the skip decoder at stride 2 (at 4 to 32 it has 2, 4, 6 and 8 times as many); a
            quarter of the fusion decoder's.
        head: ``sigmoid``, or ``log_bins``: a mean of depths at equal ratios.
        bins: How many depths ``log_bins`` has.
        min_depth: Least depth that is predicted [m].
        max_depth: Greatest one [m].
    """

    backbone: str = "ode_vgg16_bn"
    backbone_args: dict[str, PlainValue] = field(default_factory=dict)
    pretrained: bool | str = False
    checkpoint: str = ""
    decoder: str = "skip"
    decoder_width: int = 32
    head: str = "sigmoid"
    bins: int = 64
    min_depth: float = 0.1
    max_depth: float = 80.0

    def __post_init__(self) -> None:
        require_free("model.backbone_args", self.backbone_args)
        if self.pretrained and self.checkpoint:
            raise InputError("model.pretrained and model.checkpoint: take one of them")
        for name, known in (("decoder", DECODERS), ("head", HEADS)):
            if getattr(self, name) not in known:
                raise unknown_name(f"model.{name}", getattr(self, name), known)
        for name, least in (("decoder_width", 1), ("bins", 2)):
            if getattr(self, name) < least:
                raise InputError(f"model.{name}={getattr(self, name)}: expected at least {least}")
        if not 0 < self.min_depth < self.max_depth:
            raise InputError(
                f"model.min_depth={self.min_depth}, model.max_depth={self.max_depth}: expected 0 < least < greatest [m]"
            )


class DepthModel(nn.Module):
    """Depth of every pixel of an image.

    Args:
        body: timm model made with ``features_only=True``.
        decoder: From its features to one map.
        head: From that to depths.

    Shape:
        ``(B, 3, H, W)`` in [0, 1], of any size, ``-> (B, 1, H, W)`` [m], float32. Sides are padded to what the
        coarsest stride divides, by repeating the last row and column, and the depth is cut again.
    """

    def __init__(self, body: nn.Module, decoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.body, self.decoder, self.head = body, decoder, head
        info: Any = body.feature_info
        self.stride: int = max(info.reduction())
        normalization = resolve_model_data_config(body)
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(normalization[name])[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """The depth [m]."""
        height, width = images.shape[-2:]
        depth = self.head(self.decoder(self.features(images)))
        size = [side + -side % self.stride for side in (height, width)]
        return F.interpolate(depth, size=size, mode="bilinear")[..., :height, :width]

    def features(self, images: Tensor) -> list[Tensor]:
        """The backbone's features of the normalized and padded images, from the finest to the coarsest."""
        height, width = images.shape[-2:]
        x = (images - self.get_buffer("mean")) / self.get_buffer("std")
        return self.body(F.pad(x, (0, -width % self.stride, 0, -height % self.stride), mode="replicate"))


def decoder_levels(config: ModelConfig) -> list[int]:
    """Return the indices of the backbone's feature maps that the decoder takes.

    Raises:
        InputError: timm doesn't know the backbone or its arguments, or it lacks levels.
    """
    strides = DECODERS[config.decoder].strides
    levels = feature_levels("model.backbone", config.backbone, config.backbone_args)
    used = [stride for stride in strides if stride in levels]
    if len(used) < 2:
        raise InputError(
            f"model.backbone={config.backbone!r} has features at strides {sorted(levels)}, and the {config.decoder} "
            f"decoder wants two or more of {list(strides)}; take another backbone, such as a ResNet"
        )
    return [levels[stride] for stride in used]


def build_depth_model(backbone: str | ModelConfig, *, loaded: bool = False, **settings: Any) -> DepthModel:
    """A depth model on the backbone of that name.

    Args:
        backbone: timm's name, or a whole configuration, in which ``settings`` are changed.
        loaded: Leave the weights random, as others will be loaded.
        **settings: The other fields of :class:`ModelConfig`.

    Raises:
        InputError: timm doesn't know the backbone or its arguments, or it lacks a level.
    """
    config = replace(backbone, **settings) if isinstance(backbone, ModelConfig) else ModelConfig(backbone, **settings)
    decoder_class = DECODERS[config.decoder]
    if not loaded:
        warn_of_weights_left("model.backbone", config.backbone, config.pretrained or config.checkpoint)
    body: Any = create_features(
        "model.backbone",
        config.backbone,
        config.backbone_args,
        levels=decoder_levels(config),
        pretrained=False if loaded else config.pretrained,
    )
    decoder = decoder_class(body.feature_info.channels(), config.decoder_width)
    bounds = config.min_depth, config.max_depth
    head = HEADS[config.head](decoder.out_channels, bounds, config.bins)
    model = DepthModel(body, decoder, head)
    if config.checkpoint and not loaded:
        content = load_checkpoint(Path(config.checkpoint), task="depth")
        load_weights(model, content["model"], origin=config.checkpoint)
    return model
