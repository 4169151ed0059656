"""timm's models, built as a configuration names them."""

from collections.abc import Mapping, Sequence
from typing import Any

import timm
import torch
from timm.layers import Format
from torch import Tensor, nn

from engine.log import warn
from engine.weights.pretrained import load_matching_weights
from odebackbones.errors import InputError, unknown_name
from odebackbones.models.stage_options import ODE_ARGUMENTS

Scalar = bool | int | float | str | None
PlainValue = Scalar | list[Scalar] | dict[str, Scalar]
"""Type of a model's argument. A closed type: under ``Any``, jsonargparse builds any class that a file names."""

RESERVED_ARGS = {
    *("class_path", "init_args"),
    *("checkpoint_path", "features_only", "num_classes", "out_indices"),
    *("pretrained", "pretrained_cfg", "pretrained_cfg_overlay"),
}
"""Names that are not arguments of a model, or that only the task sets."""

SHOWN = 300
"""Number of characters shown of an error from timm or torch, which may name every weight."""


def require_free(setting: str, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that the user may not set; ``setting`` is their name in the error."""
    taken = sorted(arguments.keys() & RESERVED_ARGS)
    if taken:
        raise InputError(f"{setting}: {', '.join(taken)}: set by the task; remove it from the model's arguments")


def require_model(name: str, *, what: str) -> None:
    """Refuse a name that timm doesn't know; names with ``hf-hub:`` and ``local-dir:`` are not checked."""
    if ":" not in name and not timm.is_model(name):
        raise unknown_name(what, name, timm.list_models())


def require_published(name: str, *, setting: str) -> None:
    """Refuse ``pretrained: true`` for a model without published weights, such as the ODE models."""
    if ":" not in name and not timm.models.is_model_pretrained(name):
        raise InputError(
            f"{setting}=true: there are no published weights of {name}; give a file of weights: a run's best.pt (of "
            f"tools/train.py classification, for instance), or those of tools/convert.py"
        )


def warn_of_weights_left(setting: str, name: str, pretrained: bool | str) -> None:
    """Warn that the weights of a folder or a hub are not taken if ``pretrained`` is false."""
    if ":" in name and not pretrained:
        warn(
            f"{setting}={name}: the network is built without the weights that are there; --model.pretrained true takes "
            f"them"
        )


def create(setting: str, name: str, arguments: Mapping[str, Any], **kwargs: Any) -> nn.Module:
    """Call ``timm.create_model(name, **arguments, **kwargs)``, with an error that names the user's wrong arguments.

    Raises:
        InputError: The model can't be built with these arguments.
    """
    try:
        return timm.create_model(name, **arguments, **kwargs)
    except InputError:
        raise
    except Exception as error:  # errors of any type: timm passes the arguments to the model unchecked
        if isinstance(error, TypeError) and (flow := sorted(ODE_ARGUMENTS & arguments.keys())):
            raise InputError(
                f"{setting}: {', '.join(flow)}: arguments of ODE models, and {name} has no ODE blocks: take an ODE "
                f"model, such as ode_resnet50"
            ) from error
        reason = " ".join(repr(error).replace("\\n", " ").split())[:SHOWN]
        raise InputError(f"{setting} {name} can't be made with {dict(arguments)}: {reason}") from error


def feature_levels(setting: str, name: str, arguments: Mapping[str, Any]) -> dict[int, int]:
    """Return stride -> number of the last feature map with this stride, as ``out_indices`` takes it.

    Raises:
        InputError: timm doesn't know the model or its arguments, or the model gives no feature maps.
    """
    require_model(name, what=setting)
    with torch.device("meta"):
        info: Any = create(setting, name, arguments, features_only=True).feature_info
    return {level["reduction"]: number for number, level in enumerate(info.info)}


def create_features(
    setting: str,
    name: str,
    arguments: Mapping[str, Any],
    *,
    levels: Sequence[int],
    pretrained: bool | str = False,
    any_size: bool = False,
) -> nn.Module:
    """Build timm's feature extractor, with feature maps ``(B, C, H, W)`` for any axis order in the model.

    Args:
        setting: Name of the setting in error messages.
        name: timm name of the model.
        arguments: The user's arguments.
        levels: Numbers of the feature maps.
        pretrained: Whether to load timm's weights; or a weight file, from which the matching weights are taken
            (:func:`~engine.weights.pretrained.load_matching_weights`).
        any_size: Refuse a network that takes images of one size only.
    """
    if pretrained is True:
        require_published(name, setting="model.pretrained")
    kwargs = {"features_only": True, "out_indices": tuple(levels), "pretrained": pretrained is True}
    body: Any = create(setting, name, arguments, **kwargs)
    if any_size and (fault := size_fault(body)):
        body = of_any_size(setting, name, arguments, fault, **kwargs)
    if isinstance(pretrained, str):
        load_matching_weights(body, pretrained, setting="model.pretrained")
    if getattr(body, "output_fmt", None) == Format.NHWC:
        body.register_forward_hook(channels_first)
    return body


TRIED_SIZES = ((256, 320), (352, 224))
"""Height and width [px] of two images that a body for any size must take."""

SIZE_OPTIONS: tuple[dict[str, Any], ...] = ({"strict_img_size": False}, {"dynamic_img_size": True})
"""timm's options of networks that are made for one size but can take others."""


@torch.no_grad()
def size_fault(body: nn.Module) -> str:
    """Return the error of a network that can't take images of two sizes; empty if it can."""
    training = body.training
    try:
        for height, width in TRIED_SIZES:
            body.eval()(torch.zeros(1, 3, height, width))
    except Exception as error:  # errors of any type: every network raises its own
        return " ".join(str(error).split())[:SHOWN] or type(error).__name__
    finally:
        body.train(training)
    return ""


def of_any_size(setting: str, name: str, arguments: Mapping[str, Any], fault: str, **kwargs: Any) -> nn.Module:
    """Build the same network with timm's option for images of any size, if it has one.

    Raises:
        InputError: The network has no such option.
    """
    for option in SIZE_OPTIONS:
        try:
            body = timm.create_model(name, **{**arguments, **option}, **kwargs)
        except Exception:  # it has no such option
            continue
        if not size_fault(body):
            return body
    raise InputError(
        f"{setting} {name} takes images of one size only ({fault}): take a network for any size, such as a ResNet or a "
        f"ConvNeXt"
    )


def channels_first(module: nn.Module, inputs: Any, features: list[Tensor]) -> list[Tensor]:
    """Convert feature maps ``(B, H, W, C)`` to ``(B, C, H, W)``."""
    return [level.permute(0, 3, 1, 2) for level in features]
