"""VGG with one convolution and one ODE block per stage, in timm's registry."""

from functools import partial
from itertools import pairwise
from typing import Any

from timm.layers import get_norm_layer
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.vgg import VGG, cfgs
from torch import nn

from odebackbones.block import ODEBlock, find_ode_block, set_checkpointing
from odebackbones.errors import InputError, unknown_name
from odebackbones.fields.batch_norm import freeze_norms
from odebackbones.fields.plain import ConvField, DepthwiseField
from odebackbones.fields.residual import BottleneckField
from odebackbones.models.default_cfg import default_cfg
from odebackbones.models.recompute import RecomputedLayers, recompute_blocks
from odebackbones.models.stage_options import (
    StageOptions,
    build_block,
    continuous_stages,
    flowing_stages,
    pop_options,
    require_channels,
    require_known,
    require_norm,
)

FIELDS = {
    "bottleneck": lambda channels, extra: partial(BottleneckField, channels + extra, width=channels // 4),
    "conv": lambda channels, extra: partial(ConvField, channels + extra),
    "depthwise": lambda channels, extra: partial(DepthwiseField, channels + extra),
}
"""Name of a field -> function from a stage's channels and the state's extra channels to the field's constructor."""

EVALUATIONS = {"bottleneck": (2, 4), "conv": (1, 1), "depthwise": (2, 4)}
"""Name of a field -> evaluations per convolution beyond a stage's first, and the minimum per stage: the cheap fields
take about an eighth of a convolution's MACs, and a single step of the midpoint method is just a residual block."""

LAYER_OPTIONS = ("act_layer", "conv_layer", "norm_layer")
"""timm's options that would apply to the discrete layers only; ``norm`` chooses the norm."""

DISCRETE_NORMS = {"batch": "batchnorm", "frozen": "batchnorm", "group": "groupnorm", "none": None}
"""Our norm names -> timm's names, for the norms after the convolutions that stay."""


class ODEVGG(VGG):
    r"""A VGG whose stages are a convolution that changes the channels, and an ODE block for the other convolutions.

    Otherwise it *is* timm's VGG (head, names of the head's weights, feature extraction at strides 1 to 32). VGG has no
    residual blocks: its convolutions are replaced by the flow of a field whose state is the stage's features. A stage
    with as many channels as the previous one (the fifth) needs no convolution to change them; a stage whose only
    convolution changes them has nothing to replace. By default the first stage stays VGG's: at the image's own
    resolution, two convolutions are cheap and states are large.

    Args:
        cfg: timm's list of the convolutions' channels in the VGG that is replaced, with "M" for pooling between stages.
        field: Name of the field: ``"bottleneck"``, ``"conv"`` (VGG's own convolution) or ``"depthwise"``.
        recompute: Whether the convolutions that stay, too, keep only a stage's input in training and are evaluated
            again; by default with every gradient mode except ``"backprop"``, as for the ODE blocks. At the image's own
            resolution they would store more than the ODE blocks do.
        **kwargs: Options of :class:`~odebackbones.models.stage_options.StageOptions` (``solver``, ``steps``,
            ``gradient``, ``norm``, ``bases``, ...), for five stages, and keyword arguments of
            :class:`timm.models.vgg.VGG`. By default there are as many evaluations as convolutions beyond a stage's
            first or, with the cheaper fields, twice as many and at least four.

    Shape:
        ``(B, in_chans, H, W) -> (B, num_classes)``; features at strides 1, 2, 4, 8, 16 and 32.

    K. Simonyan, A. Zisserman: Very Deep Convolutional Networks for Large-Scale Image Recognition, ICLR 2015,
    arXiv:1409.1556
    """

    def __init__(
        self, cfg: list[Any], *, field: str = "bottleneck", recompute: bool | None = None, **kwargs: Any
    ) -> None:
        require_known(kwargs, ODEVGG, VGG)
        require_channels(kwargs.get("in_chans", 3))
        if found := sorted(name for name in LAYER_OPTIONS if kwargs.get(name) is not None):
            raise InputError(f"{', '.join(found)}: not an option of an ODE-VGG, whose vector fields don't have it")
        if field not in FIELDS:
            raise unknown_name("field", field, FIELDS)
        stages = stages_of(cfg)
        kwargs.setdefault("continuous", tuple(i > 0 for i in range(len(stages))))
        options = pop_options(kwargs, stages=len(stages))
        continuous = continuous_stages(options)
        require_norm(options.norm, DISCRETE_NORMS)
        norm = DISCRETE_NORMS[options.norm]
        replaced = [convolutions_replaced(stages, i) if continuous[i] else 0 for i in range(len(stages))]
        kept: list[Any] = []
        for stage, number in zip(stages, replaced, strict=True):
            kept += [*stage[: len(stage) - number], "M"]
        super().__init__(kept, norm_layer=get_norm_layer(norm) if norm else None, **kwargs)  # pyright: ignore[reportArgumentType]
        self.insert_flows(stages, replaced, options, field)
        recompute_blocks(self, enable=options.gradient != "backprop" if recompute is None else recompute)
        if options.norm == "frozen":
            freeze_norms(self)

    def insert_flows(self, stages: list[list[int]], replaced: list[int], options: StageOptions, field: str) -> None:
        """Group the convolutions that stay in each stage, and append an ODE block if others are replaced."""
        layers: list[nn.Module] = []
        ends, start = [], 0
        for i, pooling in enumerate(at for at, layer in enumerate(self.features) if isinstance(layer, nn.MaxPool2d)):
            if pooling > start:
                layers.append(RecomputedLayers(*self.features[start:pooling]))
            if replaced[i] and flowing_stages(options)[i]:
                each, least = EVALUATIONS[field]
                evaluations = max(least, each * (len(stages[i]) - 1))
                make_field = partial(make_named, field, stages[i][0])
                layers.append(build_block(options, i, make_field, evaluations=evaluations, name=f"stage {i + 1}"))
            ends.append(len(layers) - 1)
            layers.append(self.features[pooling])
            start = pooling + 1
        self.features = nn.Sequential(*layers)
        self.feature_ends = [*ends, len(layers) - 1]
        for info, end in zip(self.feature_info, self.feature_ends, strict=True):
            info["module"] = f"features.{end}"

    def ode_blocks_by_stage(self) -> list[ODEBlock | None]:
        """Return the ODE block of every stage, None for a stage without one."""
        starts = [0, *(end + 1 for end in self.feature_ends)]
        stages = [list(self.features)[start:end] for start, end in pairwise(starts)]
        return [find_ode_block(stage) for stage in stages[:-1]]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Switch the ODE blocks between ``gradient="checkpoint"`` and ``"backprop"``, and ``recompute`` on or off.

        Blocks in the other gradient modes, which do not store activations either, stay as they are.
        """
        set_checkpointing(self, enable)
        recompute_blocks(self, enable=enable)


def stages_of(cfg: list[Any]) -> list[list[int]]:
    """Split timm's list of channels and poolings into the convolutions' channels for every stage."""
    if not cfg or cfg[-1] != "M":
        raise InputError(f"cfg={cfg}: expected every stage to end with pooling, 'M'")
    stages: list[list[int]] = [[]]
    for entry in cfg:
        if entry == "M":
            stages.append([])
        else:
            stages[-1].append(entry)
    return stages[:-1]


def convolutions_replaced(stages: list[list[int]], i: int) -> int:
    """Count the convolutions replaced in a continuous stage: all except a first one that changes the channels."""
    brought = i > 0 and stages[i - 1][-1] == stages[i][0]
    return len(stages[i]) - (0 if brought else 1)


def make_named(field: str, channels: int, *, extra: int, **kwargs: Any) -> nn.Module:
    """Build the field of that name for a stage's channels."""
    return FIELDS[field](channels, extra)(**kwargs)


QUARTER: list[Any] = [entry // 4 if isinstance(entry, int) else entry for entry in cfgs["vgg16"]]
"""VGG-16 with a quarter of the channels, for small images and small machines."""

CFGS: dict[str, list[Any]] = {**cfgs, "vgg16_quarter": QUARTER}
NAMES = [*(f"ode_{name}{norm}" for name in cfgs for norm in ("", "_bn")), "ode_vgg16_quarter_bn", "vgg16_quarter_bn"]

default_cfgs = generate_default_cfgs(
    {
        name: default_cfg(first_conv="features.0.0" if name.startswith("ode_") else "features.0", classifier="head.fc")
        for name in NAMES
    }
)


def _create(variant: str, pretrained: bool, **kwargs: Any) -> ODEVGG:
    norm = "batch" if variant.endswith("_bn") else "none"
    return _build(ODEVGG, variant, pretrained, **{"norm": norm, **kwargs})


def _build(kind: type[VGG], variant: str, pretrained: bool, **kwargs: Any) -> Any:
    cfg = CFGS[variant.removeprefix("ode_").removesuffix("_bn")]
    levels = kwargs.pop("out_indices", (0, 1, 2, 3, 4, 5))
    feature_cfg = {"flatten_sequential": True, "out_indices": levels}
    return build_model_with_cfg(kind, variant, pretrained, model_cfg=cfg, feature_cfg=feature_cfg, **kwargs)


@register_model
def ode_vgg11(pretrained: bool = False, **kwargs: Any) -> ODEVGG:
    """ODE-VGG-11: ODE blocks for 1 convolution in each of stages 3 and 4, and for both of stage 5."""
    return _create("ode_vgg11", pretrained, **kwargs)


@register_model
def ode_vgg11_bn(pretrained: bool = False, **kwargs: Any) -> ODEVGG:
    """ODE-VGG-11 with batch norms."""
    return _create("ode_vgg11_bn", pretrained, **kwargs)


@register_model
def ode_vgg13(pretrained: bool = False, **kwargs: Any) -> ODEVGG:
    """ODE-VGG-13: ODE blocks for 1 convolution in each of stages 2 to 4, and for both of stage 5."""
    return _create("ode_vgg13", pretrained, **kwargs)


@register_model
def ode_vgg13_bn(pretrained: bool = False, **kwargs: Any) -> ODEVGG:
    """ODE-VGG-13 with batch norms."""
    return _create("ode_vgg13_bn", pretrained, **kwargs)


@register_model
def ode_vgg16(pretrained: bool = False, **kwargs: Any) -> ODEVGG:
    """ODE-VGG-16: ODE blocks for 1, 2 and 2 convolutions of stages 2 to 4, and for all 3 of stage 5."""
    return _create("ode_vgg16", pretrained, **kwargs)


@register_model
def ode_vgg16_bn(pretrained: bool = False, **kwargs: Any) -> ODEVGG:
    """ODE-VGG-16 with batch norms."""
    return _create("ode_vgg16_bn", pretrained, **kwargs)


@register_model
def ode_vgg19(pretrained: bool = False, **kwargs: Any) -> ODEVGG:
    """ODE-VGG-19: ODE blocks for 1, 3 and 3 convolutions of stages 2 to 4, and for all 4 of stage 5."""
    return _create("ode_vgg19", pretrained, **kwargs)


@register_model
def ode_vgg19_bn(pretrained: bool = False, **kwargs: Any) -> ODEVGG:
    """ODE-VGG-19 with batch norms."""
    return _create("ode_vgg19_bn", pretrained, **kwargs)


@register_model
def ode_vgg16_quarter_bn(pretrained: bool = False, **kwargs: Any) -> ODEVGG:
    """ODE-VGG-16 with batch norms and a quarter of the channels."""
    return _create("ode_vgg16_quarter_bn", pretrained, **{"mlp_ratio": 0.25, **kwargs})


@register_model
def vgg16_quarter_bn(pretrained: bool = False, **kwargs: Any) -> VGG:
    """timm's VGG-16 with batch norms and a quarter of the channels."""
    kwargs = {"mlp_ratio": 0.25, "norm_layer": nn.BatchNorm2d, **kwargs}
    return _build(VGG, "vgg16_quarter_bn", pretrained, **kwargs)
