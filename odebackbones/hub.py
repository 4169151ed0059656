"""Saving of models, with solver and weights, in timm's format: ``timm.create_model("local-dir:FOLDER")`` loads them."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import save_for_hf
from timm.models.resnet import ResNet
from torch import nn

from odebackbones.block import ODEBlock, has_ode_blocks
from odebackbones.errors import InputError, name_prefix
from odebackbones.fields.affine import TimeNorm
from odebackbones.fields.conv import TimeConv2d
from odebackbones.models import CifarResNet
from odebackbones.models.stage_options import at_stage

FOUND_BY_TIMM = ("num_classes", "in_chans", "global_pool")


def save_pretrained(model: nn.Module, folder: str | Path) -> Path:
    """Write ``config.json`` and ``model.safetensors``, which timm reads from a folder or from the Hugging Face Hub.

    The configuration holds the current solver, also after :func:`~odebackbones.change_solver`,
    :func:`~odebackbones.change_bases` or :func:`~odebackbones.from_resnet`; timm's ``push_to_hf_hub`` writes the same
    configuration with ``model_args=model_arguments(model)``.

    Args:
        model: A model that ``timm.create_model`` built, or a converted one.
        folder: Folder to write to, created if missing; existing files of the same names are replaced.

    Returns:
        The folder.

    Raises:
        InputError: timm could not rebuild the model.
    """
    folder, arguments = Path(folder), model_arguments(model)
    os.umask(umask := os.umask(0))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as unfinished:
        save_for_hf(model, unfinished, model_args=arguments, safe_serialization=True)
        require_rebuilt(model, unfinished)
        folder.mkdir(exist_ok=True)
        for file in Path(unfinished).iterdir():
            file.chmod(0o666 & ~umask)  # safetensors' own files can be read by their owner only
            os.replace(file, folder / file.name)
    return folder


def model_arguments(model: nn.Module) -> dict[str, Any]:
    """Return the keyword arguments with which ``timm.create_model`` builds the model with its current solver.

    Arguments that timm itself finds in the model, such as ``num_classes``, are left out.

    Raises:
        InputError: timm did not build the model, or has no model of this name, or the ODE blocks differ in more than
            their steps and weights over time.
    """
    architecture = getattr(model, "pretrained_cfg", {}).get("architecture", "")
    if not timm.is_model(architecture) or not hasattr(model, "_model_args"):
        raise InputError(f"{type(model).__name__} {architecture!r}: timm has no such model, so nothing could load it")
    built_with: dict[str, Any] = model._model_args  # pyright: ignore[reportAssignmentType]
    arguments = {name: value for name, value in built_with.items() if name not in FOUND_BY_TIMM}
    if has_ode_blocks(model):
        if not hasattr(model, "ode_blocks_by_stage"):
            raise InputError(
                f"{type(model).__name__}: save the whole model; timm makes features_only=True of it when loaded"
            )
        flows: Any = model.ode_blocks_by_stage()  # pyright: ignore[reportCallIssue]
        found = flow_arguments(flows)
        for i, flow in enumerate(flows):
            if flow is None and at_stage(arguments.get("steps"), i) == 0:  # the identity, and no discrete blocks
                found["steps"][i], found["continuous"][i] = 0, True
        return arguments | found
    if type(model) is CifarResNet:
        return arguments | {"blocks": len(model.layer1)}
    if type(model) is ResNet:
        return arguments | {"layers": [len(model.get_submodule(f"layer{i}")) for i in (1, 2, 3, 4)]}  # pyright: ignore[reportArgumentType]
    return arguments


def flow_arguments(flows: Sequence[ODEBlock | None]) -> dict[str, Any]:
    """Return the arguments that concern the ODE blocks, one for each stage, or None for a stage without one."""
    options = [options_of(flow) for flow in flows if flow]
    for name in options[0]:
        values = [each[name] for each in options]
        if any(value != values[0] for value in values):
            raise InputError(f"{name} of the ODE blocks is {values}: a saved model has one for all")
    return options[0] | {
        "steps": [flow.solver.steps if flow else None for flow in flows],
        "nodes": [flow.solver.nodes if flow else None for flow in flows],
        "bases": [first_convolution(flow).bases if flow else 1 for flow in flows],
        "norm_bases": [norm_bases(flow) if flow else None for flow in flows],
        "duration": [float(getattr(flow.field, "duration", 1.0)) if flow else 1.0 for flow in flows],
        "continuous": [flow is not None for flow in flows],
    }


def options_of(block: ODEBlock) -> dict[str, Any]:
    """Return the options of a block that must be the same for all blocks of a model."""
    solver = asdict(block.solver)
    del solver["steps"], solver["nodes"]
    drawing = {"augment": block.augment, "budgets": list(block.budgets), "steer": block.steer}
    return {"solver": solver.pop("method"), **solver, **drawing, "basis": first_convolution(block).basis}


def first_convolution(block: ODEBlock) -> TimeConv2d:
    """Return the first convolution of the field; all convolutions have the same ``bases`` and ``basis``.

    Raises:
        InputError: The field has no convolution with weights over time.
    """
    found = [module for module in block.field.modules() if isinstance(module, TimeConv2d)]
    if not found:
        field = type(block.field).__name__
        raise InputError(f"{name_prefix(block.name)}{field} has no weights over time: save a model before it is fused")
    return found[0]


def norm_bases(block: ODEBlock) -> int | None:
    """Return the number of gains over time of the field's norms, or None if it has no norms."""
    return next((module.bases for module in block.field.modules() if isinstance(module, TimeNorm)), None)


def require_rebuilt(model: nn.Module, folder: str) -> None:
    """Refuse a model that timm would build with other weights from the configuration in a folder."""
    with torch.device("meta"):
        twin = timm.create_model(f"local-dir:{folder}")
    found, expected = ({key: value.shape for key, value in m.state_dict().items()} for m in (twin, model))
    different = sorted(key for key in found.keys() | expected if found.get(key) != expected.get(key))
    if different:
        architecture = model.pretrained_cfg["architecture"]  # pyright: ignore[reportIndexIssue, reportArgumentType, reportCallIssue]
        raise InputError(
            f"timm.create_model({architecture!r}, ...) has other weights than this model, first {different[0]}: save "
            f"its state_dict() instead"
        )
