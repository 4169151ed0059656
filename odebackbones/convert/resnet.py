"""Trained ResNets as ODE models of the same function, and ODE models as plain ResNets."""

import copy
from collections.abc import Callable, Mapping
from functools import partial
from itertools import chain
from typing import Any, TypeVar

import timm.models.resnet
from torch import nn

from odebackbones.block import ODEBlock, ode_blocks
from odebackbones.convert.weights import plain_block, set_branch
from odebackbones.errors import InputError
from odebackbones.fields.batch_norm import TimeBatchNorm2d
from odebackbones.fields.from_block import BASIC, BOTTLENECK, branch, branch_field, drop_path_rate
from odebackbones.fields.residual import BasicField, BottleneckField
from odebackbones.models import CifarResNet, ODECifarResNet, ODEResNet
from odebackbones.models.stage_options import ODE_ARGUMENTS
from odebackbones.ode import SolverConfig
from odebackbones.ode.solvers import evaluation_times, solver_grid

Model = TypeVar("Model", bound=nn.Module)

TO_ODE: dict[type, type] = {timm.models.resnet.ResNet: ODEResNet, CifarResNet: ODECifarResNet}
"""Classes of plain models, and what they become."""

FIXED_ARGS = {"method", "steps", "grid", "degree", "damping", "projected"}
"""Fields of the solver's configuration that would make another function of a converted model."""

EXTRAS = ("downsample", "aa", "drop_block")
"""Parts that timm's blocks may have, and that no field and no identity block has."""


def from_resnet(model: Model, **solver_args: Any) -> Model:
    r"""A copy of a trained ResNet in which the identity blocks of every stage are one ODE block of the same function.

    N identity blocks :math:`x_{i+1} = \max(0, x_i + f(\theta_i, x_i))` are N projected Euler steps of length 1 / N
    through the field :math:`N f(\theta(t), x)`, whose weights, gains, offsets and statistics are constant in each step.
    The factor N is in the last norm's gain and offset. The first block of a stage stays, and so does a stage of one.

    Args:
        model: A ResNet of timm's or torchvision's residual blocks with batch norms, in ``nn.Sequential`` stages. timm's
            own becomes an :class:`~odebackbones.ODEResNet`.
        **solver_args: Fields of :class:`~odebackbones.ode.SolverConfig` that leave the function as it is, such as
            ``gradient`` and ``checkpoints``.

    Raises:
        InputError: There is no stage to convert, or a block is more than convolutions, batch norms and ReLUs; or an
            argument would change the function.
    """
    if fixed := sorted(FIXED_ARGS & solver_args.keys()):
        raise InputError(f"{', '.join(fixed)}: from_resnet takes Euler's steps; change_solver takes others afterwards")
    converted = copy.deepcopy(model)
    sequences = [(name, module) for name, module in converted.named_modules() if isinstance(module, nn.Sequential)]
    stages = {name: sequence for name, sequence in sequences if is_stage(sequence)}
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
    """Whether it is two residual blocks or more."""
    return len(sequence) > 1 and all(isinstance(block, BASIC + BOTTLENECK) for block in sequence)


def require_plain(block: nn.Module, *, name: str) -> None:
    """Refuse a block that is more than x, plus convolutions, batch norms and ReLUs of it."""
    found = [part for part in EXTRAS if not isinstance(getattr(block, part, None), nn.Identity | None)]
    for conv, norm in branch(block):
        found += ["a bias"] * (conv.bias is not None) + [name_of(norm)] * (not is_plain_norm(norm))
    activations = [module for key, module in block.named_children() if key.startswith(("act", "relu"))]
    found += [type(module).__name__ for module in activations if not isinstance(module, nn.ReLU)]
    if found:
        raise InputError(
            f"{name}: an identity block with {', '.join(dict.fromkeys(found))} can't be a vector field, which is made "
            f"of convolutions, BatchNorm2d and ReLU"
        )


def is_plain_norm(norm: nn.Module) -> bool:
    """Whether it is a batch norm with gains, offsets and running statistics of a constant momentum."""
    return type(norm) is nn.BatchNorm2d and norm.affine and norm.track_running_stats and norm.momentum is not None


def name_of(norm: nn.Module) -> str:
    """Its kind, and of a batch norm its settings."""
    return str(norm) if type(norm) is nn.BatchNorm2d else type(norm).__name__


def flow_of(blocks: nn.ModuleList, *, name: str, **solver_args: Any) -> ODEBlock:
    """The ODE block that takes one projected Euler step for each of these blocks."""
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
    """A copy of a model whose ODE blocks, solved by Euler's method, are plain residual blocks, one for each step.

    A ReLU follows the addition in projected solves only. An :class:`~odebackbones.ODEResNet` becomes timm's ResNet, for
    deployment without this package.

    Args:
        model: A model with ODE blocks in ``nn.Sequential`` stages; :func:`~odebackbones.change_solver` brings one to
            Euler's method.

    Raises:
        InputError: A block is solved by another method, or its field is no branch of a residual block with batch norms.
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
    if any(isinstance(module, ODEBlock) for module in plain.modules()):
        raise InputError(f"{type(model).__name__}: an ODE block in it does not stand in an nn.Sequential")
    is_timms = all(block.solver.projected for block in blocks)  # in timm's blocks, a ReLU follows the addition
    to_plain = {ode: resnet for resnet, ode in TO_ODE.items()}
    rename(plain, to_plain, lambda name: name.removeprefix("ode_") if is_timms else "")
    if hasattr(plain, "_model_args"):  # timm's record of the arguments
        plain._model_args = {name: arg for name, arg in plain._model_args.items() if name not in ODE_ARGUMENTS}
    return plain


def rename(model: Any, classes: Mapping[type, type], new_name: Callable[[str], str]) -> None:
    """Let a converted timm model be of the class, and have the name in timm's registry, that it has become."""
    if type(model) not in classes:
        return
    model.__class__ = classes[type(model)]
    model.grad_checkpointing = False  # timm's, of whole stages
    if hasattr(model, "pretrained_cfg"):  # timm's factory made it
        architecture = new_name(model.pretrained_cfg["architecture"])
        model.pretrained_cfg = model.default_cfg = {**model.pretrained_cfg, "architecture": architecture}


def require_euler(block: ODEBlock) -> None:
    """Refuse what is not Euler's method through the branch of a residual block with batch norms."""
    field = block.field
    if block.solver.method != "euler":
        raise InputError(
            f"{block.name}: solver {block.solver.method!r} is no ResNet; first odebackbones.change_solver(model, "
            f"'euler', steps=...)"
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
    """A block for each Euler step."""
    field: Any = block.field
    grid = solver_grid(block.solver, block.t_span)
    steps = [plain_block(field, t, factor=h, activate=block.solver.projected) for t, h in grid]
    return [step.train(block.training) for step in steps]
