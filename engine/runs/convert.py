"""Conversion of a trained run: its ResNet backbone to an ODE model of the same function, or back."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import timm
import torch
import yaml
from torch import Tensor, nn

from engine.atomic_files import new_folder
from engine.config import AnytimeConfig
from engine.log import warn
from engine.measure.profile import count_parameters
from engine.runs.run import LoadedRun
from engine.training.settings import CONVERTED, to_dict
from engine.weights.checkpoint import BEST, load_checkpoint, load_weights, save_checkpoint
from odebackbones import change_bases, fit_bases, from_resnet, to_resnet
from odebackbones.block import find_ode_block, has_ode_blocks, ode_blocks
from odebackbones.errors import InputError
from odebackbones.hub import flow_arguments
from odebackbones.models.stage_options import ODE_ARGUMENTS


@dataclass(frozen=True)
class Conversion:
    """What a conversion does.

    Attributes:
        bases: Weights over time of each ODE block, or one number for each; None for one per residual block.
        steps: With a fit: Euler steps of each ODE block, or one number for each; None for one per residual block.
        images: Number of the task's training images on which fewer weights are fitted; 0 projects them.
        gradient: Gradient mode of the ODE blocks.
    """

    bases: int | list[int] | None = None
    steps: int | list[int] | None = None
    images: int = 0
    gradient: str = "checkpoint"

    def __post_init__(self) -> None:
        if self.steps and not self.images:
            raise InputError("--steps: fewer steps take a fit of the weights; give --fit, too")
        if self.images and not (self.bases or self.steps):
            raise InputError("--fit: say how many weights with --bases (or --steps)")


def convert_run(run: LoadedRun, out: Path, conversion: Conversion) -> list[str]:
    """Write the run with its backbone converted: ``config.yaml`` and ``best.pt``, as a training leaves them.

    Args:
        run: A trained run.
        out: Folder of the new run, which must not exist.
        conversion: What to do on the way to an ODE model; the way back takes none of it.

    Returns:
        Lines that say what was done.

    Raises:
        InputError: The backbone can't be converted, or the folder exists.
    """
    model, task = run.model, run.task
    body = model.get_submodule(task.body)
    converted, fitted_on = convert_body(run, body, conversion)
    arguments = backbone_arguments(converted, run.task.config.model.backbone_args)
    config = with_backbone(task.config, new_name(task.config.model.backbone, body), arguments)
    content = load_checkpoint(run.checkpoint)
    device = content["config"]["run"]["device"]  # not that of the conversion
    config = replace(config, run=replace(config.run, name=out.name, output=str(out.parent), device=device))
    rebuilt = type(task)(config, content["metadata"]).build_model(loaded=True)
    load_weights(rebuilt, with_body(model, task.body, converted), origin=str(run.checkpoint))
    difference = output_difference(body, rebuilt.get_submodule(task.body), body_inputs(run, 1)[:1])
    told = {
        "from": str(run.checkpoint),
        "backbone": task.config.model.backbone,
        "fitted on": fitted_on,
        "difference": difference,
    }
    kept = {name: content.get(name) for name in ("score", "metrics", "precision") if name in content}
    kept |= {"epoch": content.get("epoch", len(content.get("history", ())))}
    with new_folder(out) as folder:
        (folder / "config.yaml").write_text(yaml.safe_dump(to_dict(config), sort_keys=False))
        save_checkpoint(
            folder / BEST,
            task=task.name,
            model=rebuilt.state_dict(),
            config=to_dict(config),
            metadata=content["metadata"] | {CONVERTED: told},
            **kept,
        )
    return [
        f"from: {task.config.model.backbone}, {count_parameters(model):,} parameters",
        f"to: {config.model.backbone}, {count_parameters(rebuilt):,} parameters, {arguments}",
        f"largest difference of the backbone's features on a training image: {difference:.3g} of their largest value",
    ]


def convert_body(run: LoadedRun, body: nn.Module, conversion: Conversion) -> tuple[nn.Module, int]:
    """Convert the backbone, in evaluation mode; return also the number of images that its weights were fitted on.

    Raises:
        InputError: It has no residual blocks, or no Euler steps.
    """
    name = run.task.config.model.backbone
    if has_ode_blocks(body):
        if conversion != Conversion():
            raise InputError(f"{name} has ODE blocks: --bases, --fit, --steps and --gradient are for the way to them")
        if others := {block.solver.method for block in ode_blocks(body)} - {"euler"}:
            raise InputError(
                f"{name}: no plain network computes steps of {', '.join(sorted(others))}; only runs solved by "
                f"projected Euler steps go back, such as those that this tool converted"
            )
        if not all(block.solver.projected for block in ode_blocks(body)):
            raise InputError(
                f"{name}: its Euler steps have no ReLU after the addition, as timm's blocks have, so no plain run "
                f"computes the same; train it with --model.backbone_args.projected true"
            )
        return to_resnet(body), 0
    if "vgg" in name:
        raise InputError(
            f"{name} has no residual blocks, so no ODE model computes the same: train ode_{name} toward this run, with "
            f"tools/train.py {run.task.name} --distillation.teacher {run.checkpoint.parent}"
        )
    converted = from_resnet(body, gradient=conversion.gradient)
    blocks = [block.solver.steps or 1 for block in ode_blocks(converted)]
    bases, steps = (
        None if numbers is None else at_most(option, numbers, blocks)
        for option, numbers in (
            ("--bases", conversion.steps if conversion.bases is None else conversion.bases),
            ("--steps", conversion.steps),
        )
    )
    if not conversion.images:
        return change_bases(converted, bases) if bases else converted, 0
    assert bases
    if bases == blocks and steps in (None, blocks):
        raise InputError(f"--fit: nothing to reduce; the stages of {name} have {blocks} residual blocks to replace")
    inputs = body_inputs(run, conversion.images)
    return fit_bases(converted, bases, inputs, steps=steps), len(inputs)


def at_most(option: str, numbers: int | list[int], blocks: list[int]) -> list[int]:
    """Return a number for each stage, at most the number of its residual blocks.

    Args:
        option: Name of the option in errors.
        numbers: One number for all stages, which is lowered where a stage has fewer blocks, or one for each.
        blocks: Numbers of residual blocks that an ODE block replaces.

    Raises:
        InputError: A number is below 1, or one of a list is above its stage's.
    """
    each = numbers if isinstance(numbers, list) else [min(numbers, most) for most in blocks]
    if isinstance(numbers, int) and numbers > max(blocks):
        warn(f"{option} {numbers}: the stages have {blocks} residual blocks to replace; {each} it is")
    if len(each) != len(blocks) or not all(1 <= one <= most for one, most in zip(each, blocks, strict=False)):
        raise InputError(
            f"{option} {numbers}: the {len(blocks)} stages have {blocks} residual blocks to replace; give one number, "
            f"or one for each stage, from 1 to these"
        )
    return each


def new_name(name: str, body: nn.Module) -> str:
    """Return the converted backbone's name in timm's registry.

    Raises:
        InputError: There is none.
    """
    plain = name.split(".")[0]
    is_ode = has_ode_blocks(body)
    found = plain.removeprefix("ode_") if is_ode else f"ode_{plain}"
    if not timm.is_model(found):
        raise InputError(f"{name}: timm's registry has no {found}, as which a converted run would be built")
    return found


def backbone_arguments(converted: nn.Module, before: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``timm.create_model`` for the converted backbone."""
    stages = [module for name, module in converted.named_children() if name.startswith("layer")]
    others = {name: value for name, value in before.items() if name not in ODE_ARGUMENTS}
    flows = [find_ode_block(stage.children()) for stage in stages]
    if any(flows):
        return {**others, **without_defaults(flow_arguments(flows))}
    layers = [len(list(stage.children())) for stage in stages]
    is_cifar = len(stages) == 3  # the ResNets for images of 32 px
    return {**others, "blocks": layers[0]} if is_cifar else {**others, "layers": layers}


def without_defaults(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the arguments that change nothing."""
    usual: dict[str, Any] = {"checkpoints": "every", "damping": 1.0, "state_dtype": "auto", "check_finite": True}
    usual |= {"basis": "constant", "projected": False, "norm_bases": arguments["bases"]}
    kept = {name: value for name, value in arguments.items() if value and usual.get(name) != value}
    empty = ({None}, {True}, {1.0})
    per_stage = {"nodes": empty[0], "continuous": empty[1], "duration": empty[2]}
    return {name: value for name, value in kept.items() if name not in per_stage or set(value) != per_stage[name]}


def with_backbone(config: Any, name: str, arguments: dict[str, Any]) -> Any:
    """Return the run's configuration with another backbone, with weights of the checkpoint and steps of its own."""
    model = replace(config.model, backbone=name, backbone_args=arguments, pretrained=False)
    if getattr(model, "checkpoint", ""):
        model = replace(model, checkpoint="")
    return replace(config, model=model, anytime=AnytimeConfig())


def with_body(model: nn.Module, name: str, body: nn.Module) -> dict[str, Tensor]:
    """Return the model's state with the weights of another backbone."""
    if not name:
        return body.state_dict()
    rest = {key: value for key, value in model.state_dict().items() if not key.startswith(f"{name}.")}
    return rest | {f"{name}.{key}": value for key, value in body.state_dict().items()}


@torch.no_grad()
def body_inputs(run: LoadedRun, number: int) -> Tensor:
    """Return the backbone's inputs for training images, cut to the smallest batch's size: ``(n, C, H, W)``."""
    found: list[Tensor] = []
    body = run.model.get_submodule(run.task.body)
    handle = body.register_forward_pre_hook(lambda module, arguments: found.append(arguments[0]))
    try:
        for batch in run.task.calibration_batches(number, run.device):
            run.model(batch[0] if isinstance(batch, tuple) else batch)
    finally:
        handle.remove()
    height, width = (min(x.shape[side] for x in found) for side in (2, 3))
    return torch.cat([x[..., :height, :width] for x in found])


@torch.no_grad()
def output_difference(before: nn.Module, after: nn.Module, images: Tensor) -> float:
    """Return the largest difference of the outputs, in units of the largest output."""
    outputs = [model.eval()(images) for model in (before, after)]
    pairs = zip(*(out if isinstance(out, list | tuple) else [out] for out in outputs), strict=True)
    return max(float((b - a).abs().max() / a.abs().max()) for a, b in pairs)
