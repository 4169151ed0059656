"""Faster R-CNN with a feature pyramid over any timm backbone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from timm.data import resolve_model_data_config
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from detection.heads import (
    ASPECT_RATIOS,
    HEADS,
    POOLED,
    FullPrecisionBoxPredictor,
    FullPrecisionRPNHead,
    Heads,
    full_precision,
)
from detection.torchvision_weights import load_torchvision, read_detector
from engine.log import warn
from engine.weights.run_weights import load_run_weights
from engine.weights.timm_models import PlainValue, create_features, feature_levels, require_free, warn_of_weights_left
from odebackbones import freeze_norms
from odebackbones.errors import InputError, unknown_name

STRIDES = (4, 8, 16, 32)
"""Strides of the levels of torchvision's detectors."""


@dataclass(frozen=True)
class ModelConfig:
    """The detector: its backbone, and the sizes of the parts on top of it.

    Args:
        backbone: Any timm model with features at these strides: ``ode_resnet34``, ``resnet34``, ...
        backbone_args: Arguments of ``timm.create_model``, e.g. ``{solver: heun, steps: 4}``.
        pretrained: Start from timm's pretrained weights of the backbone (true: downloads them), or from the weights in
            a file that match it in name and shape: a run's folder or its ``best.pt``, of any task, or weights with
            timm's names. Training and report list what was not taken.
        checkpoint: Start from the weights of another detection run with the same model and number of classes: its
            folder, or its ``best.pt``.
        frozen_norm: Freeze the backbone's batch norms, which then use their running statistics: for fine-tuning with
            few images per batch.
        strides: Strides of the backbone's levels under the pyramid, which adds a level of twice the largest; what the
            backbone has after its last level is left out.
        frozen_stages: Feature levels to freeze, from the image up: 1 is the stem, 2 adds the first stage, ...
        heads: ``v1``, those of torchvision's ``fasterrcnn_resnet50_fpn``; or ``v2``, those of its ``_v2``: two
            convolutions before the proposals, batch norms in the pyramid, four convolutions in the box head.
        fpn_channels: Channels of the pyramid.
        box_head_size: Width of the box head's two layers.
        min_size: Shorter image side [px]; training draws from several values, evaluation uses the last one.
        max_size: Bound on the longer image side [px].
        anchor_sizes: Anchor side [px] at each stride, the added one included.
        proposals_train: Proposals per image kept after NMS in training.
        proposals_test: Proposals per image kept after NMS in evaluation.
        rpn_batch_size: Anchors per image that the RPN's loss samples.
        box_batch_size: Proposals per image that the box head's loss samples; the RoI pooling's backward pass is slow on
            CPUs and takes time in proportion to their number.
        detections: Detections kept per image.
        score_threshold: Lowest score of a detection.
    """

    backbone: str = "ode_resnet34"
    backbone_args: dict[str, PlainValue] = field(default_factory=dict)
    pretrained: bool | str = False
    checkpoint: str = ""
    frozen_norm: bool = False
    strides: list[int] = field(default_factory=lambda: list(STRIDES))
    frozen_stages: int = 0
    heads: str = "v1"
    fpn_channels: int = 256
    box_head_size: int = 1024
    min_size: list[int] = field(default_factory=lambda: [800])
    max_size: int = 1333
    anchor_sizes: list[int] = field(default_factory=lambda: [32, 64, 128, 256, 512])
    proposals_train: int = 2000
    proposals_test: int = 1000
    rpn_batch_size: int = 256
    box_batch_size: int = 512
    detections: int = 100
    score_threshold: float = 0.05

    def __post_init__(self) -> None:
        require_free("model.backbone_args", self.backbone_args)
        if self.heads not in HEADS:
            raise unknown_name("model.heads", self.heads, HEADS)
        if self.pretrained and self.checkpoint:
            raise InputError("model.pretrained and model.checkpoint: take one of them")
        if not self.strides or self.strides != sorted(set(self.strides)):
            raise InputError(f"model.strides={self.strides}: expected rising strides, such as {list(STRIDES)}")
        if len(self.anchor_sizes) != len(self.strides) + 1:
            raise InputError(
                f"model.anchor_sizes={self.anchor_sizes}: expected {len(self.strides) + 1} sizes [px], for strides "
                f"{[*self.strides, 2 * self.strides[-1]]}"
            )
        if min(self.anchor_sizes) <= 0:
            raise InputError(f"model.anchor_sizes={self.anchor_sizes}: expected sizes above 0 px")
        if not self.min_size or min(self.min_size) < 32 or self.max_size < max(self.min_size):
            raise InputError(
                f"model.min_size={self.min_size}, model.max_size={self.max_size}: expected sides of at least 32 px, "
                f"and max_size not below min_size"
            )
        if not 0 <= self.score_threshold < 1:
            raise InputError(f"model.score_threshold={self.score_threshold}: expected a share, from 0 to below 1")
        for name in ("detections", "proposals_train", "proposals_test", "rpn_batch_size", "box_batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"model.{name}={getattr(self, name)}: expected at least 1")


class FPNBackbone(nn.Module):
    """A timm feature extractor with a feature pyramid on its levels.

    T.-Y. Lin et al.: Feature Pyramid Networks for Object Detection, CVPR 2017, arXiv:1612.03144

    Args:
        body: timm model created with ``features_only=True``, with the pyramid's levels as outputs.
        out_channels: Channels of the pyramid.
        frozen: Names of the body's modules that stay in evaluation mode and are not trained.

    Shape:
        ``(B, 3, H, W) -> {"0": (B, out_channels, H / 4, W / 4), ..., "pool": (B, out_channels, H / 64, W / 64)}``
        with levels of stride 4 to 32
    """

    def __init__(
        self,
        body: nn.Module,
        *,
        out_channels: int,
        frozen: Sequence[str] = (),
        norm: Callable[..., nn.Module] | None = None,
    ) -> None:
        super().__init__()
        channels = body.feature_info.channels()  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
        self.body = body
        self.fpn = FeaturePyramidNetwork(channels, out_channels, extra_blocks=LastLevelMaxPool(), norm_layer=norm)
        self.out_channels = out_channels
        self.frozen = list(frozen)
        for name in self.frozen:
            body.get_submodule(name).requires_grad_(False).eval()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Compute the pyramid of an image batch."""
        levels: dict[str, Tensor] = {}
        for i, level in enumerate(self.body(x)):
            levels[str(i)] = level
        pyramid = self.fpn(levels)
        for name, level in pyramid.items():
            pyramid[name] = full_precision(level)
        return pyramid

    @torch.jit.unused
    def train(self, mode: bool = True) -> "FPNBackbone":
        """Set the mode; frozen parts stay in evaluation mode."""
        super().train(mode)
        for name in self.frozen:
            self.body.get_submodule(name).eval()
        return self


def build_faster_rcnn(config: ModelConfig, *, num_classes: int, pretrained: bool | str | None = None) -> FasterRCNN:
    """Build torchvision's Faster R-CNN on the backbone that ``config`` names.

    S. Ren, K. He, R. Girshick, J. Sun: Faster R-CNN, NeurIPS 2015, arXiv:1506.01497

    Args:
        config: Backbone and sizes.
        num_classes: Number of classes, including the background, which is class 0.
        pretrained: Overrides the config's value, e.g. False if weights will be loaded anyway.

    Returns:
        The detector, with torchvision's interface: ``model(images, targets)`` gives the losses in training mode,
        ``model(images)`` gives ``[{"boxes": (N, 4) xyxy [px], "labels": (N,), "scores": (N,)}, ...]``.

    Raises:
        InputError: timm doesn't know the backbone or its arguments, or the backbone lacks a level.
    """
    if pretrained is None:
        warn_of_weights_left("model.backbone", config.backbone, config.pretrained or config.checkpoint)
    start = config.pretrained if pretrained is None else pretrained
    whole = read_detector(start) if isinstance(start, str) else None
    if whole is not None and config.strides != list(STRIDES):
        raise InputError(
            f"model.pretrained={start!r}: a detector with the levels {list(STRIDES)}; set model.strides so"
        )
    body = build_body(config, pretrained=start if whole is None else False)
    if (config.frozen_norm or config.frozen_stages) and not (config.pretrained or config.checkpoint):
        warn("model.frozen_*: parts of a backbone without pretrained weights are frozen")
    if config.frozen_norm:
        body = freeze_norms(body)
    heads = HEADS[config.heads](config.fpn_channels, config.box_head_size)
    backbone = FPNBackbone(
        body,
        out_channels=config.fpn_channels,
        frozen=frozen_modules(body, config.frozen_stages),
        norm=heads.pyramid_norm,
    )
    model = assemble(config, backbone, heads, num_classes=num_classes)
    if config.checkpoint and pretrained is None:
        load_run_weights(model, config.checkpoint, task="detection")
    if whole is not None:
        names = {"file": str(config.pretrained), "backbone": config.backbone, "heads": config.heads}
        load_torchvision(model, whole, **names)
    return model


def assemble(config: ModelConfig, backbone: FPNBackbone, heads: Heads, *, num_classes: int) -> FasterRCNN:
    """Build the detector of its parts, with the backbone's normalization of images."""
    normalization = resolve_model_data_config(backbone.body)
    anchors = AnchorGenerator(
        tuple((size,) for size in config.anchor_sizes), (ASPECT_RATIOS,) * len(config.anchor_sizes)
    )
    roi_pool = MultiScaleRoIAlign([str(i) for i in range(len(config.strides))], output_size=POOLED, sampling_ratio=2)
    return FasterRCNN(
        backbone,
        min_size=tuple(config.min_size),  # pyright: ignore[reportArgumentType] (torchvision takes both)
        max_size=config.max_size,
        image_mean=list(normalization["mean"]),
        image_std=list(normalization["std"]),
        rpn_anchor_generator=anchors,
        rpn_head=FullPrecisionRPNHead(heads.rpn),
        rpn_pre_nms_top_n_train=config.proposals_train,
        rpn_pre_nms_top_n_test=config.proposals_test,
        rpn_post_nms_top_n_train=config.proposals_train,
        rpn_post_nms_top_n_test=config.proposals_test,
        rpn_batch_size_per_image=config.rpn_batch_size,
        box_roi_pool=roi_pool,
        box_head=heads.box,
        box_predictor=FullPrecisionBoxPredictor(FastRCNNPredictor(config.box_head_size, num_classes)),
        box_batch_size_per_image=config.box_batch_size,
        box_score_thresh=config.score_threshold,
        box_detections_per_img=config.detections,
    )


def pyramid_levels(config: ModelConfig) -> list[int]:
    """Return the indices of the backbone's feature maps at the strides of ``config``.

    Raises:
        InputError: timm doesn't know the backbone or its arguments, or it lacks a level.
    """
    levels = feature_levels("model.backbone", config.backbone, config.backbone_args)
    missing = [stride for stride in config.strides if stride not in levels]
    if missing:
        raise InputError(
            f"model.backbone={config.backbone!r} has features at strides {sorted(levels)} and none at {missing}; "
            f"take a backbone with strides {config.strides}, or set model.strides and model.anchor_sizes"
        )
    return [levels[stride] for stride in config.strides]


def build_body(config: ModelConfig, *, pretrained: bool | str) -> nn.Module:
    """Build timm's feature extractor with outputs at the strides of ``config``, whatever their index in the model."""
    return create_features(
        "model.backbone",
        config.backbone,
        config.backbone_args,
        levels=pyramid_levels(config),
        pretrained=pretrained,
        any_size=True,
    )


def frozen_modules(body: nn.Module, levels: int) -> list[str]:
    """Return the names of ``body``'s modules up to and including its level ``levels``, counted from 1 (the stem)."""
    if levels == 0:
        return []
    info: Any = body.feature_info
    names = [module_of(body, level["module"]) for level in info.info]
    usable = {number: name for number, name in enumerate(names, start=1) if name is not None}
    if levels not in usable:
        raise InputError(f"model.frozen_stages={levels}: this backbone can be frozen up to one of {usable}; 0 is none")
    return up_to(body, usable[levels])


def module_of(body: nn.Module, name: str) -> str | None:
    """Return a feature extractor's name of the network's module ``name``, or None if it lacks this module."""
    modules = dict(body.named_modules())
    return next((form for form in (name.replace(".", "_"), name) if form in modules), None)


def up_to(body: nn.Module, name: str) -> list[str]:
    """Return the names of the modules declared before the module ``name``, in this order, and its own."""
    found, module, prefix = [], body, ""
    for part in name.split("."):
        children = [child for child, _ in module.named_children()]
        found += [f"{prefix}{child}" for child in children[: children.index(part)]]
        module, prefix = module.get_submodule(part), f"{prefix}{part}."
    return [*found, name]
