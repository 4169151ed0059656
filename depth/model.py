"""Monocular depth model on any timm backbone: features, a decoder, and a head with a bounded range."""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from depth.decoders import DECODERS
from depth.heads import HEADS
from engine.report.records import model_label
from engine.weights.run_weights import load_run_weights
from engine.weights.timm_models import PlainValue, create_features, feature_levels, require_free, warn_of_weights_left
from odebackbones.errors import InputError, unknown_name


@dataclass(frozen=True)
class ModelConfig:
    """Settings of the depth model: its backbone, decoder and head.

    Args:
        backbone: Any timm model with feature maps: ``ode_vgg16_bn``, ``vgg16_bn``, ``ode_resnet101``, ...
        backbone_args: Arguments of ``timm.create_model``, e.g. ``{solver: heun, steps: 4}``.
        pretrained: Start from timm's pretrained weights of the backbone (true: downloads them), or from the weights in
            a file that match in name and shape: a run's folder or its ``best.pt``, of any task, or weights with timm's
            names. Training and the report say which weights were not used.
        checkpoint: Start from the weights of another depth run with the same model: its folder, or its ``best.pt``.
        decoder: ``skip`` (light, up to stride 2) or ``fusion`` (as in DPT, up to stride 4).
        decoder_width: Channels of the skip decoder at stride 2 (at strides 4 to 32 it has 2, 4, 6 and 8 times as many),
            or a quarter of the fusion decoder's channels.
        head: ``sigmoid``, or ``log_bins``: a mean of depths at equal ratios.
        bins: Number of depths of ``log_bins``.
        min_depth: Least predicted depth [m].
        max_depth: Greatest predicted depth [m].
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
    """A network that predicts the depth of every pixel of an image.

    Args:
        body: timm model built with ``features_only=True``.
        decoder: Maps the body's features to one feature map.
        head: Maps the decoder's features to depths.

    Shape:
        ``(B, 3, H, W)`` in [0, 1], of any size, ``-> (B, 1, H, W)`` [m], float32. Images are padded to multiples of
        the coarsest stride by repeating the last row and column, and the depth is cropped back.
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
        """Predict the depth [m]."""
        height, width = images.shape[-2:]
        depth = self.head(self.decoder(self.features(images)))
        size = [side + -side % self.stride for side in (height, width)]
        return F.interpolate(depth, size=size, mode="bilinear")[..., :height, :width]

    def features(self, images: Tensor) -> list[Tensor]:
        """Return the backbone's features of the normalized and padded images, from the finest to the coarsest."""
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
    """Build a depth model on the backbone of this name.

    Args:
        backbone: timm's name of the backbone, or a whole configuration, which ``settings`` override.
        loaded: Leave the weights random, as other weights will be loaded.
        **settings: The other fields of :class:`ModelConfig`.

    Raises:
        InputError: timm doesn't know the backbone or its arguments, or fewer than two of its strides are the decoder's.
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
        load_run_weights(model, config.checkpoint, task="depth")
    return model


def describe_model(config: ModelConfig) -> str:
    """Describe a model for a report: backbone, decoder and head."""
    backbone = model_label(config.backbone, config.backbone_args)
    return f"{backbone}, {config.decoder} decoder {config.decoder_width}, {config.head} to {config.max_depth:g} m"
