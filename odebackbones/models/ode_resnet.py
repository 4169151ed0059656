"""ResNets whose identity blocks are replaced by one ODE block per stage, in timm's registry."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import count
from typing import Any

from timm.layers import DropPath, get_norm_layer
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import nn

from odebackbones.block import ODEBlock, find_ode_block, set_checkpointing
from odebackbones.errors import InputError
from odebackbones.fields.batch_norm import freeze_norms
from odebackbones.fields.from_block import branch_field
from odebackbones.models.default_cfg import default_cfg_like
from odebackbones.models.recompute import recompute_blocks
from odebackbones.models.stage_options import (
    build_block,
    continuous_stages,
    flowing_stages,
    pop_options,
    require_channels,
    require_known,
    require_norm,
)

STAGES = 4
BLOCK_OPTIONS = ("act_layer", "aa_layer", "norm_layer", "block_reduce_first", "drop_block_rate")
"""timm's residual block options that :mod:`odebackbones.fields` does not support."""

SQUEEZE_EXCITE = {"attn_layer": "se"}
"""timm's ``block_args`` of its SE-ResNets."""

VARIANTS = ("wide_resnet50_2", "resnext50_32x4d", "seresnet50")

DISCRETE_NORMS = {"batch": "batchnorm", "frozen": "batchnorm", "group": "groupnorm"}
"""Our norm names -> timm's names, for the blocks that stay discrete ("frozen" is frozen after construction)."""


class ODEResNet(ResNet):
    r"""A ResNet in which each continuous stage consists of its downsampling block and an ODE block over t in [0, 1].

    Otherwise it *is* timm's ResNet (stem variants, output stride, head, feature extraction, names of weights).
    The branch of N identity blocks, :math:`x_{i+1} = x_i + f(\theta_i, x_i)`, becomes the slope of
    :math:`x'(t) = f(\theta(t), x)`. With ``bases=N``, ``solver="euler"``, ``steps=N`` and ``duration=N`` it is the
    ResNet whose identity blocks have no ReLU after the addition.

    Args:
        block: timm's BasicBlock or Bottleneck.
        layers: Number of blocks per stage of the ResNet that is replaced.
        recompute: Whether the discrete blocks, too, keep only their input in training and are evaluated again.
        drop_path_rate: Drop path rate of the last block of the ResNet that is replaced. As in timm, rates grow linearly
            with depth; an ODE block has the mean rate of the blocks that it replaces.
        **kwargs: Options of :class:`~odebackbones.models.stage_options.StageOptions` (``solver``, ``steps``,
            ``gradient``, ``norm``, ``bases``, ...), and keyword arguments of :class:`timm.models.resnet.ResNet`.

    Shape:
        ``(B, in_chans, H, W) -> (B, num_classes)``; features at strides 2, 4, 8, 16, 32.

    R. T. Q. Chen, Y. Rubanova, J. Bettencourt, D. Duvenaud: Neural Ordinary Differential Equations, NeurIPS 2018,
    arXiv:1806.07366
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        layers: Sequence[int],
        *,
        recompute: bool = False,
        drop_path_rate: float = 0.0,
        **kwargs: Any,
    ) -> None:
        refuse_options(kwargs)
        require_channels(kwargs.get("in_chans", 3))
        options = pop_options(kwargs, stages=STAGES)
        continuous, flowing = continuous_stages(options), flowing_stages(options)
        require_norm(options.norm, DISCRETE_NORMS)
        norm: Any = get_norm_layer(DISCRETE_NORMS[options.norm])
        super().__init__(
            block,  # pyright: ignore[reportArgumentType] (timm's annotation says instance, and means class)
            tuple(1 if ode else blocks for ode, blocks in zip(continuous, layers, strict=True)),
            norm_layer=norm,
            zero_init_last=options.zero_init_last,
            **kwargs,
        )
        rates = drop_path_rates(drop_path_rate, layers)
        for i, stage in enumerate(self.stage_modules()):
            if drop_path_rate:
                for discrete, rate in zip(stage, rates[i], strict=False):  # one, or the whole stage
                    discrete.drop_path = DropPath(rate)
            if flowing[i]:
                replaced = rates[i][1:]
                make_field = partial(branch_field, stage[0], drop_path=sum(replaced) / max(1, len(replaced)))
                stage.append(build_block(options, i, make_field, evaluations=len(replaced), name=f"layer{i + 1}"))
        if options.norm == "frozen":
            freeze_norms(self)
        if recompute:
            recompute_blocks(self)

    def stage_modules(self) -> list[nn.Sequential]:
        """Return the four stages."""
        return [self.get_submodule(f"layer{i + 1}") for i in range(STAGES)]  # pyright: ignore[reportReturnType]

    def ode_blocks_by_stage(self) -> list[ODEBlock | None]:
        """Return the ODE block of every stage, None for a stage without one."""
        return [find_ode_block(stage) for stage in self.stage_modules()]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Switch the ODE blocks between ``gradient="checkpoint"`` and ``"backprop"``, and ``recompute`` on or off.

        Blocks in the other gradient modes, which do not store activations either, stay as they are.
        """
        set_checkpointing(self, enable)
        recompute_blocks(self, enable=enable)


def drop_path_rates(rate: float, layers: Sequence[int]) -> list[list[float]]:
    """Return timm's rates for the blocks of the ResNet that is replaced, by stage: from 0 in the first to ``rate``."""
    if not 0.0 <= rate < 1.0:
        raise InputError(f"drop_path_rate={rate!r}: expected a probability from 0 to below 1")
    block, last = count(), max(1, sum(layers) - 1)
    return [[rate * next(block) / last for _ in range(blocks)] for blocks in layers]


def refuse_options(options: Mapping[str, Any]) -> None:
    """Refuse unknown options, and timm's block options, which would apply to only half of a stage.

    Raises:
        InputError: An option is unknown or not supported; the error names it.
    """
    require_known(options, ODEResNet, ResNet)
    found = sorted(name for name in BLOCK_OPTIONS if options.get(name))
    if options.get("block_args", SQUEEZE_EXCITE) != SQUEEZE_EXCITE:
        found.append(f"block_args={options['block_args']}")
    if found:
        raise InputError(f"{', '.join(found)}: not an option of an ODE-ResNet, whose vector fields don't have it")


default_cfgs = generate_default_cfgs(
    {
        f"ode_{name}": default_cfg_like(name)
        for name in (*(f"resnet{depth}" for depth in (18, 34, 50, 101, 152)), *VARIANTS)
    }
)


@register_model
def ode_resnet18(pretrained: bool = False, **kwargs: Any) -> ODEResNet:
    """ODE-ResNet-18: one ODE block for the identity block of each stage."""
    options = {"block": BasicBlock, "layers": (2, 2, 2, 2), **kwargs}
    return build_model_with_cfg(ODEResNet, "ode_resnet18", pretrained, **options)


@register_model
def ode_resnet34(pretrained: bool = False, **kwargs: Any) -> ODEResNet:
    """ODE-ResNet-34: ODE blocks for 2, 3, 5 and 2 identity blocks."""
    options = {"block": BasicBlock, "layers": (3, 4, 6, 3), **kwargs}
    return build_model_with_cfg(ODEResNet, "ode_resnet34", pretrained, **options)


@register_model
def ode_resnet50(pretrained: bool = False, **kwargs: Any) -> ODEResNet:
    """ODE-ResNet-50: ODE blocks for 2, 3, 5 and 2 identity blocks."""
    options = {"block": Bottleneck, "layers": (3, 4, 6, 3), **kwargs}
    return build_model_with_cfg(ODEResNet, "ode_resnet50", pretrained, **options)


@register_model
def ode_resnet101(pretrained: bool = False, **kwargs: Any) -> ODEResNet:
    """ODE-ResNet-101: ODE blocks for 2, 3, 22 and 2 identity blocks."""
    options = {"block": Bottleneck, "layers": (3, 4, 23, 3), **kwargs}
    return build_model_with_cfg(ODEResNet, "ode_resnet101", pretrained, **options)


@register_model
def ode_resnet152(pretrained: bool = False, **kwargs: Any) -> ODEResNet:
    """ODE-ResNet-152: ODE blocks for 2, 7, 35 and 2 identity blocks."""
    options = {"block": Bottleneck, "layers": (3, 8, 36, 3), **kwargs}
    return build_model_with_cfg(ODEResNet, "ode_resnet152", pretrained, **options)


@register_model
def ode_wide_resnet50_2(pretrained: bool = False, **kwargs: Any) -> ODEResNet:
    """ODE-Wide-ResNet-50-2: twice the width (S. Zagoruyko, N. Komodakis: Wide Residual Networks, BMVC 2016)."""
    options = {"block": Bottleneck, "layers": (3, 4, 6, 3), "base_width": 128, **kwargs}
    return build_model_with_cfg(ODEResNet, "ode_wide_resnet50_2", pretrained, **options)


@register_model
def ode_resnext50_32x4d(pretrained: bool = False, **kwargs: Any) -> ODEResNet:
    """ODE-ResNeXt-50: convolutions in 32 groups (S. Xie et al.: Aggregated Residual Transformations, CVPR 2017)."""
    options = {"block": Bottleneck, "layers": (3, 4, 6, 3), "cardinality": 32, "base_width": 4, **kwargs}
    return build_model_with_cfg(ODEResNet, "ode_resnext50_32x4d", pretrained, **options)


@register_model
def ode_seresnet50(pretrained: bool = False, **kwargs: Any) -> ODEResNet:
    """ODE-SE-ResNet-50: channel attention in the fields (J. Hu et al.: Squeeze-and-Excitation Networks, CVPR 2018)."""
    options = {"block": Bottleneck, "layers": (3, 4, 6, 3), "block_args": SQUEEZE_EXCITE, **kwargs}
    return build_model_with_cfg(ODEResNet, "ode_seresnet50", pretrained, **options)
