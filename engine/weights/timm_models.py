"""timm's models as a configuration names them."""

from collections.abc import Mapping, Sequence
from typing import Any

import timm
import torch
from timm.layers import Format
from torch import Tensor, nn

from engine.log import warn
from engine.weights.pretrained import load_matching_weights
from odebackbones.errors import InputError, unknown_name

Scalar = bool | int | float | str | None
PlainValue = Scalar | list[Scalar] | dict[str, Scalar]
"""What a model's argument may be. A closed type: under ``Any`` jsonargparse builds whatever class a file names."""

RESERVED_ARGS = {
    *("class_path", "init_args"),
    *("checkpoint_path", "features_only", "num_classes", "out_indices"),
    *("pretrained", "pretrained_cfg", "pretrained_cfg_overlay"),
}
"""Names that are no model's arguments, or a task's to set."""

SHOWN = 300
"""Letters of an error of timm's or torch's, which may name every weight."""


def require_free(setting: str, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that are not the user's to give; ``setting`` is what they are called."""
    taken = sorted(arguments.keys() & RESERVED_ARGS)
    if taken:
        raise InputError(f"{setting}: {', '.join(taken)}: set by the task; remove it from the model's arguments")


def require_model(name: str, *, what: str) -> None:
    """Refuse a name that timm doesn't know; what ``hf-hub:`` and ``local-dir:`` lead to is not looked at."""
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
    """Say that the weights of a folder or a hub are not taken, where ``pretrained`` is false."""
    if ":" in name and not pretrained:
        warn(
            f"{setting}={name}: the network is built without the weights that are there; --model.pretrained true takes "
            f"them"
        )


def create(setting: str, name: str, arguments: Mapping[str, Any], **kwargs: Any) -> nn.Module:
    """``timm.create_model(name, **arguments, **kwargs)``, with wrong arguments named as the user's.

    Raises:
        InputError: The model can't be made with them.
    """
    try:
        return timm.create_model(name, **arguments, **kwargs)
    except InputError:
        raise
    except Exception as error:  # of any kind: the arguments go through timm to the model unseen
        reason = " ".join(repr(error).replace("\\n", " ").split())[:SHOWN]
        raise InputError(f"{setting} {name} can't be made with {dict(arguments)}: {reason}") from error


def feature_levels(setting: str, name: str, arguments: Mapping[str, Any]) -> dict[int, int]:
    """Stride -> number of the last feature map of that stride, which is what ``out_indices`` takes.

    Raises:
        InputError: timm doesn't know the model or its arguments, or it gives no feature maps.
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
    """timm's feature extractor, with feature maps ``(B, C, H, W)`` whatever their order in the model.

    Args:
        setting: What errors call it.
        name: timm's name.
        arguments: The user's.
        levels: Which feature maps, by their numbers.
        pretrained: Whether timm's weights are loaded; or a file of weights, from which it takes the ones that fit
            (:func:`~engine.weights.pretrained.load_matching_weights`).
        any_size: Refuse what takes images of one size only.
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
"""timm's, of networks that are made for one size and can take others."""


@torch.no_grad()
def size_fault(body: nn.Module) -> str:
    """What a network says that can't take images of two sizes; nothing if it can."""
    training = body.training
    try:
        for height, width in TRIED_SIZES:
            body.eval()(torch.zeros(1, 3, height, width))
    except Exception as error:  # of any kind: every network has its own
        return " ".join(str(error).split())[:SHOWN] or type(error).__name__
    finally:
        body.train(training)
    return ""


def of_any_size(setting: str, name: str, arguments: Mapping[str, Any], fault: str, **kwargs: Any) -> nn.Module:
    """The same network with timm's option for images of any size, if it has one.

    Raises:
        InputError: It has none.
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
    """Feature maps ``(B, H, W, C)`` as ``(B, C, H, W)``."""
    return [level.permute(0, 3, 1, 2) for level in features]
