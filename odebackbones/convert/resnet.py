"""Conversion of trained ResNets to ODE models of the same function, and of ODE models to plain ResNets."""

import copy
from collections.abc import Callable, Mapping
from functools import partial
from itertools import chain
from typing import Any, TypeVar

import timm.models.resnet
from torch import nn

from odebackbones.block import ODEBlock, has_ode_blocks, ode_blocks
from odebackbones.convert.weights import plain_block, set_branch
from odebackbones.errors import InputError
from odebackbones.fields.batch_norm import TimeBatchNorm2d
from odebackbones.fields.from_block import BASIC, BOTTLENECK, branch, branch_field, drop_path_rate
from odebackbones.fields.residual import BasicField, BottleneckField
from odebackbones.models import CaffeResNet, CifarResNet, ODECaffeResNet, ODECifarResNet, ODEResNet
from odebackbones.models.stage_options import ODE_ARGUMENTS
from odebackbones.ode import SolverConfig
from odebackbones.ode.solvers import evaluation_times, solver_grid

Model = TypeVar("Model", bound=nn.Module)

TO_ODE: dict[type, type] = {
    timm.models.resnet.ResNet: ODEResNet,
    CaffeResNet: ODECaffeResNet,
    CifarResNet: ODECifarResNet,
}
"""Class of a plain model -> class of its ODE model."""

FIXED_ARGS = {"method", "steps", "grid", "degree", "damping", "projected"}
"""Fields of the solver's configuration that would change the function of a converted model."""

EXTRAS = ("downsample", "aa", "drop_block")
"""Parts that timm's blocks may have, but fields and identity blocks do not."""


def from_resnet(model: Model, **solver_args: Any) -> Model:
    r"""Return a copy of a trained ResNet in which each stage's identity blocks are one ODE block of the same function.

    N identity blocks :math:`x_{i+1} = \max(0, x_i + f(\theta_i, x_i))` are N projected Euler steps of length 1 / N
    through the field :math:`N f(\theta(t), x)`, whose weights, gains, offsets and statistics are constant in each step.
    The factor N is in the last norm's gain and offset. The first block of a stage stays, as do stages of one block.

    Args:
        model: A ResNet of timm's or torchvision's residual blocks with batch norms, in ``nn.Sequential`` stages. timm's
            own ResNet becomes an :class:`~odebackbones.ODEResNet`.
        **solver_args: Fields of :class:`~odebackbones.ode.SolverConfig` that leave the function as it is, such as
            ``gradient`` and ``checkpoints``.

    Raises:
        InputError: The model has no stage to convert, a block has parts that a field cannot have, or an argument would
            change the function.
    """
    if fixed := sorted(FIXED_ARGS & solver_args.keys()):
        raise InputError(f"{', '.join(fixed)}: from_resnet takes Euler's steps; change_solver takes others afterwards")
    converted = copy.deepcopy(model)
    sequences = [(name, module) for name, module in converted.named_modules() if isinstance(module, nn.Sequential)]
    stages = {name: sequence for name, sequence in sequences if is_stage(sequence)}
    if not stages and has_ode_blocks(model):
        raise InputError(f"{type(model).__name__} is an ODE model already; change_solver and to_resnet change those")
    if not stages:
        raise InputError(
            f"{type(model).__name__} has no stage of two or more residual blocks of timm's or torchvision's"
        )
    for name, stage in stages.items():
        blocks = nn.ModuleList(list(stage)[1:])
        for i, block in enumerate(blocks, start=1):
            require_plain(block, name=f"{name}.{i}")
        del stage[1:]
        stage.append(flow_of(blocks, name=name, **solver_args))
    rename(converted, TO_ODE, lambda name: f"ode_{name}")
    return converted


def is_stage(sequence: nn.Sequential) -> bool:
    """Whether a sequence consists of two or more residual blocks."""
    return len(sequence) > 1 and all(isinstance(block, BASIC + BOTTLENECK) for block in sequence)


def require_plain(block: nn.Module, *, name: str) -> None:
    """Refuse an identity block with parts that a vector field cannot have, such as biases or other norms."""
    found = [part for part in EXTRAS if not isinstance(getattr(block, part, None), nn.Identity | None)]
    for conv, norm in branch(block):
        found += ["a bias"] * (conv.bias is not None) + [name_of(norm)] * (not is_plain_norm(norm))
    activations = [module for key, module in block.named_children() if key.startswith(("act", "relu"))]
    found += [type(module).__name__ for module in activations if not isinstance(module, nn.ReLU)]
    if found:
        raise InputError(
            f"{name}: an identity block with {', '.join(dict.fromkeys(found))} cannot be a vector field, which "
            f"consists of convolutions, BatchNorm2d, ReLU and timm's squeeze-and-excitation"
        )


def is_plain_norm(norm: nn.Module) -> bool:
    """Whether a norm is a batch norm with gains, offsets and running statistics of constant momentum."""
    return type(norm) is nn.BatchNorm2d and norm.affine and norm.track_running_stats and norm.momentum is not None


def name_of(norm: nn.Module) -> str:
    """Return a norm's type, with settings for BatchNorm2d."""
    return str(norm) if type(norm) is nn.BatchNorm2d else type(norm).__name__


def flow_of(blocks: nn.ModuleList, *, name: str, **solver_args: Any) -> ODEBlock:
    """Build the ODE block that takes one projected Euler step for each of these blocks."""
    steps, (conv, norm) = len(blocks), branch(blocks[0])[0]
    if len({(n.eps, n.momentum) for block in blocks for _, n in branch(block)}) > 1:
        raise InputError(f"{name}: its batch norms differ in eps or momentum, and a field's are alike")
    solver = SolverConfig("euler", steps, projected=True, **solver_args)
    like = {"eps": norm.eps, "momentum": norm.momentum}
    norms = partial(TimeBatchNorm2d, nodes=evaluation_times(solver), bases=steps, **like)
    drop_path = sum(map(drop_path_rate, blocks)) / steps
    field = branch_field(blocks[0], norm=norms, bases=steps, drop_path=drop_path).to(conv.weight)
    for k, block in enumerate(blocks):
        set_branch(field, k, block, factor=steps)
    return ODEBlock(field, solver, name=name).train(blocks[0].training)


def to_resnet(model: Model) -> Model:
    """Return a copy of a model with plain residual blocks, one per Euler step, in place of its ODE blocks.

    A ReLU follows the addition in projected solves only. An :class:`~odebackbones.ODEResNet` becomes timm's ResNet, for
    deployment without this package.

    Args:
        model: A model with ODE blocks, solved by Euler's method, in ``nn.Sequential`` stages;
            :func:`~odebackbones.change_solver` changes other solvers to Euler's method.

    Raises:
        InputError: A block has another method, or its field is not the branch of a residual block with batch norms.
    """
    plain: Any = copy.deepcopy(model)
    blocks = ode_blocks(plain)
    for block in blocks:
        require_euler(block)
    for module in list(plain.modules()):
        if isinstance(module, nn.Sequential) and any(isinstance(child, ODEBlock) for child in module):
            parts = [steps_of(child) if isinstance(child, ODEBlock) else [child] for child in module]
            del module[:]
            module.extend(chain(*parts))
    if has_ode_blocks(plain):
        raise InputError(f"{type(model).__name__}: an ODE block in it does not stand in an nn.Sequential")
    is_timms = all(block.solver.projected for block in blocks)  # in timm's blocks, a ReLU follows the addition
    to_plain = {ode: resnet for resnet, ode in TO_ODE.items()}
    rename(plain, to_plain, lambda name: name.removeprefix("ode_") if is_timms else "")
    if hasattr(plain, "_model_args"):  # timm's record of the arguments
        plain._model_args = {name: arg for name, arg in plain._model_args.items() if name not in ODE_ARGUMENTS}
    return plain


def rename(model: Any, classes: Mapping[type, type], new_name: Callable[[str], str]) -> None:
    """Update the class and registry name of a converted timm model."""
    if type(model) not in classes:
        return
    model.__class__ = classes[type(model)]
    model.grad_checkpointing = False  # timm's checkpointing of whole stages
    if hasattr(model, "pretrained_cfg"):  # timm's factory built it
        architecture = new_name(model.pretrained_cfg["architecture"])
        model.pretrained_cfg = model.default_cfg = {**model.pretrained_cfg, "architecture": architecture}


def require_euler(block: ODEBlock) -> None:
    """Refuse a block that is not Euler's method applied to the branch of a residual block with batch norms."""
    field = block.field
    if block.solver.method != "euler":
        raise InputError(
            f"{block.name}: expected solver 'euler', got {block.solver.method!r}; call "
            f"odebackbones.change_solver(model, 'euler', steps=...) first"
        )
    if (
        block.augment
        or not isinstance(field, BasicField | BottleneckField)
        or not isinstance(field.norm1, TimeBatchNorm2d)
        or field.norm1.frozen
        or field.conv1.time_channel
    ):
        raise InputError(
            f"{block.name}: expected a basic or bottleneck field with batch norms that are not frozen, without time "
            f"channel and augmented state"
        )


def steps_of(block: ODEBlock) -> list[nn.Module]:
    """Build a residual block for each Euler step."""
    field: Any = block.field
    grid = solver_grid(block.solver, block.t_span)
    steps = [plain_block(field, t, factor=h, activate=block.solver.projected) for t, h in grid]
    return [step.train(block.training) for step in steps]
