"""ResNets whose identity blocks are replaced by one ODE block a stage, in timm's registry."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, replace
from inspect import signature
from itertools import count
from typing import Any

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import get_norm_layer
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import nn

from odebackbones.errors import InputError, unknown_name
from odebackbones.fields import BasicField, BottleneckField, NormLayer, freeze_norms, norm_layer, zero_last_gain
from odebackbones.ode.solvers import SolverConfig, evaluation_times, planned_nfe
from odebackbones.recompute import recompute_blocks
from odebackbones.stages import ODEBlock, set_gradient

STAGES = 4
BLOCK_OPTIONS = (
    *("act_layer", "aa_layer", "norm_layer", "block_args", "block_reduce_first"),
    *("drop_path_rate", "drop_block_rate"),
)
"""timm's options that shape a residual block beyond what :mod:`odebackbones.fields` has."""

SOLVER_ARGS = frozenset(f.name for f in fields(SolverConfig)) - {"method", "steps", "gradient"}
BLOCK_ARGS = frozenset({"augment", "budgets", "steer"})
FIELD_ARGS = frozenset({"time_channel"})
"""Keyword arguments that go to the solver, to the ODE blocks and to their fields."""

DISCRETE_NORMS = {"batch": "batchnorm", "frozen": "batchnorm", "group": "groupnorm"}
"""Our norms -> timm's name of the norm of the blocks that stay discrete ("frozen" is frozen once it is built)."""


class ODEResNet(ResNet):
    r"""A ResNet in which each continuous stage is its downsampling block and an ODE block over t in [0, 1].

    It *is* timm's ResNet otherwise (stem variants, output stride, head, feature extraction, names of weights).
    The branch of N identity blocks, :math:`x_{i+1} = x_i + f(\theta_i, x_i)`, becomes the slope of
    :math:`x'(t) = f(\theta(t), x)`. With ``bases=N``, ``solver="euler"`` and ``steps=N`` it is the ResNet whose
    identity blocks have no ReLU after the addition, up to the factor N of the step length in the last norm's gain.

    Args:
        block: timm's BasicBlock or Bottleneck.
        layers: Blocks a stage of the ResNet that is replaced.
        solver: A method of :data:`~odebackbones.ode.METHODS`.
        steps: Steps a stage, or one number for all; by default as many as bring the evaluations to the number of
            the blocks replaced (rounded up to whole steps).
        gradient: Gradient mode of the ODE blocks, see :class:`~odebackbones.ode.SolverConfig`.
        norm: ``"batch"`` (statistics per evaluation time), ``"group"`` or ``"frozen"``, in the whole network.
        bases: Weights over time, K, a stage or one number for all.
        continuous: Which stages are continuous; the others keep their blocks.
        zero_init_last: Start from residual branches and vector fields that are zero (frozen ones are not: they
            would stay zero).
        recompute: In training, the discrete blocks, too, keep their input only and are evaluated again.
        **kwargs: Further fields of :class:`~odebackbones.ode.SolverConfig` (``checkpoints``, ``rtol``, ``max_nfe``,
            ...), ``augment``, ``budgets`` and ``steer`` of :class:`~odebackbones.ODEBlock`, ``time_channel`` of the
            fields, and timm's arguments of :class:`timm.models.resnet.ResNet`.

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
        solver: str = "midpoint",
        steps: int | Sequence[int] | None = None,
        gradient: str = "checkpoint",
        norm: str = "batch",
        bases: int | Sequence[int] = 1,
        continuous: bool | Sequence[bool] = True,
        zero_init_last: bool = True,
        recompute: bool = False,
        **kwargs: Any,
    ) -> None:
        if norm not in DISCRETE_NORMS:
            raise unknown_name("norm", norm, DISCRETE_NORMS)
        refuse_options(kwargs)
        is_continuous = per_stage("continuous", continuous, bool)
        stage_steps = per_stage("steps", steps, int)
        stage_bases = per_stage("bases", bases, int)
        solver_args, block_args, field_args = (take(kwargs, names) for names in (SOLVER_ARGS, BLOCK_ARGS, FIELD_ARGS))
        super().__init__(
            block,  # pyright: ignore[reportArgumentType] (timm's annotation says instance, and means class)
            tuple(1 if ode else blocks for ode, blocks in zip(is_continuous, layers, strict=True)),
            norm_layer=get_norm_layer(DISCRETE_NORMS[norm]),
            zero_init_last=zero_init_last,
            **kwargs,
        )
        for i, stage in enumerate(self.stages()):
            if is_continuous[i]:
                n = stage_steps[i]
                config = SolverConfig(solver, 1 if n is None else n, gradient, **solver_args)
                if n is None and config.grid is None:
                    config = replace(config, steps=default_steps(config, layers[i] - 1))
                extra, budgets = block_args.get("augment", 0), block_args.get("budgets", ())
                norms = norm_layer(norm, nodes=evaluation_times(config, budgets=budgets), bases=stage_bases[i])
                field = build_field(stage[0], extra=extra, norm=norms, bases=stage_bases[i], **field_args)
                if zero_init_last and norm != "frozen":
                    zero_last_gain(field)
                stage.append(ODEBlock(field, config, name=f"layer{i + 1}", **block_args))
        if norm == "frozen":
            freeze_norms(self)
        if recompute:
            recompute_blocks(self)

    @torch.jit.unused
    def stages(self) -> list[nn.Sequential]:
        """The four stages."""
        return [self.get_submodule(f"layer{i + 1}") for i in range(STAGES)]  # pyright: ignore[reportReturnType]

    @torch.jit.unused
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Switch the ODE blocks between ``gradient="checkpoint"`` and ``"backprop"``, and ``recompute`` on or off.

        Blocks in the other gradient modes, which keep no activations either, stay as they are.
        """
        before, after = ("backprop", "checkpoint") if enable else ("checkpoint", "backprop")
        for block in self.modules():
            if isinstance(block, ODEBlock) and block.solver.gradient == before:
                set_gradient(block, after)
        recompute_blocks(self, enable=enable)


def refuse_options(options: Mapping[str, Any]) -> None:
    """Refuse options that nobody knows, and timm's of the blocks, which would hold in half of a stage only.

    Raises:
        InputError: Names those that came.
    """
    known = {*signature(ODEResNet).parameters, *signature(ResNet).parameters, *SOLVER_ARGS, *BLOCK_ARGS, *FIELD_ARGS}
    for name in options:
        if name not in known:
            raise unknown_name("argument", name, known - {"kwargs"})
    found = sorted(name for name in BLOCK_OPTIONS if options.get(name))
    if found:
        raise InputError(f"{', '.join(found)}: not an option of an ODE-ResNet, whose vector fields don't have it")


def per_stage(name: str, value: Any, kind: type) -> tuple[Any, ...]:
    """One value a stage, from one for all or from a sequence of four; None is passed on.

    Raises:
        InputError: It is neither, or holds something else than ``kind``.
    """
    values = tuple(value) if isinstance(value, list | tuple) else (value,) * STAGES
    if len(values) != STAGES or any(v is not None and not isinstance(v, kind) for v in values):
        raise InputError(f"{name}={value!r}: expected one {kind.__name__}, or {STAGES}, one for each stage")
    return values


def take(arguments: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Take the arguments of these names out of ``arguments``; lists, as YAML has them, become tuples."""
    taken = {name: arguments.pop(name) for name in list(arguments) if name in names}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in taken.items()}


def default_steps(solver: SolverConfig, blocks: int) -> int:
    """Steps that take at least ``blocks`` evaluations, at least one step."""
    return next(n for n in count(1) if planned_nfe(replace(solver, steps=n, max_nfe=None)) >= blocks)


def build_field(
    block: nn.Module, *, extra: int, norm: NormLayer, bases: int, **kwargs: Any
) -> BasicField | BottleneckField:
    """The vector field with the shape of the residual branch of ``block``, timm's first one of the stage.

    Args:
        block: The block.
        extra: Channels of the state beyond the block's.
        norm: Makes a norm for a number of channels.
        bases: Weights over time.
        **kwargs: Those of the field.
    """
    if isinstance(block, BasicBlock):
        conv, kwargs = block.conv2, {"dilation": block.dilation, **kwargs}
        return BasicField(conv.out_channels + extra, width=conv.in_channels, norm=norm, bases=bases, **kwargs)
    if isinstance(block, Bottleneck):
        conv, channels = block.conv2, block.conv3.out_channels + extra
        kwargs = {"groups": conv.groups, "dilation": block.dilation, **kwargs}
        return BottleneckField(channels, width=conv.out_channels, norm=norm, bases=bases, **kwargs)
    raise InputError(f"block={type(block).__name__}: expected timm's BasicBlock or Bottleneck")


def _cfg(**kwargs: Any) -> dict[str, Any]:
    return {
        "url": "",
        "num_classes": 1000,
        "input_size": (3, 224, 224),
        "pool_size": (7, 7),
        "crop_pct": 0.875,
        "interpolation": "bilinear",
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "first_conv": "conv1",
        "classifier": "fc",
        "license": "apache-2.0",
        **kwargs,
    }


default_cfgs = generate_default_cfgs({f"ode_resnet{depth}": _cfg() for depth in (18, 34, 50, 101, 152)})


def _create(variant: str, pretrained: bool, **kwargs: Any) -> ODEResNet:
    return build_model_with_cfg(ODEResNet, variant, pretrained, **kwargs)


@register_model
def ode_resnet18(pretrained: bool = False, **kwargs: Any) -> ODEResNet:
    """ODE-ResNet-18: one ODE block for the identity block of each stage."""
    return _create("ode_resnet18", pretrained, **{"block": BasicBlock, "layers": (2, 2, 2, 2), **kwargs})


@register_model
def ode_resnet34(pretrained: bool = False, **kwargs: Any) -> ODEResNet:
    """ODE-ResNet-34: ODE blocks for 2, 3, 5 and 2 identity blocks."""
    return _create("ode_resnet34", pretrained, **{"block": BasicBlock, "layers": (3, 4, 6, 3), **kwargs})


@register_model
def ode_resnet50(pretrained: bool = False, **kwargs: Any) -> ODEResNet:
    """ODE-ResNet-50: ODE blocks for 2, 3, 5 and 2 identity blocks."""
    return _create("ode_resnet50", pretrained, **{"block": Bottleneck, "layers": (3, 4, 6, 3), **kwargs})


@register_model
def ode_resnet101(pretrained: bool = False, **kwargs: Any) -> ODEResNet:
    """ODE-ResNet-101: ODE blocks for 2, 3, 22 and 2 identity blocks."""
    return _create("ode_resnet101", pretrained, **{"block": Bottleneck, "layers": (3, 4, 23, 3), **kwargs})


@register_model
def ode_resnet152(pretrained: bool = False, **kwargs: Any) -> ODEResNet:
    """ODE-ResNet-152: ODE blocks for 2, 7, 35 and 2 identity blocks."""
    return _create("ode_resnet152", pretrained, **{"block": Bottleneck, "layers": (3, 8, 36, 3), **kwargs})
