"""Weights of torchvision's Faster R-CNN, such as COCO's, in this package's detector, and back.

``fasterrcnn_resnet50_fpn`` (here ``model.heads=v1``) and ``fasterrcnn_resnet50_fpn_v2`` (``v2``) with ResNet backbones.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
from torch import Tensor, nn

from engine.weights.pretrained import WeightTransfer, read_timms_weights
from odebackbones import change_bases, from_resnet
from odebackbones.block import has_ode_blocks, ode_blocks
from odebackbones.errors import InputError
from odebackbones.hub import first_convolution, norm_bases
from odebackbones.ode.solvers import evaluation_times

WRAPPED = {"rpn.head.": "rpn.head.head.", "roi_heads.box_predictor.": "roi_heads.box_predictor.predictor."}
"""Beginnings of torchvision's names -> ours, whose heads are wrapped."""

BODY = "backbone.body."
PREDICTOR = "roi_heads.box_predictor.predictor."

OTHERS = {
    "roi_heads.mask_head.": "a Mask R-CNN",
    "roi_heads.keypoint_head.": "a Keypoint R-CNN",
    "head.classification_head.": "a RetinaNet, FCOS or SSD",
}
"""Beginnings of the names of other detectors -> what these are."""

HEADS = {"roi_heads.box_head.fc6.": "v1", "roi_heads.box_head.0.": "v2"}
"""Beginnings of the names of the box head -> the heads' version."""

FROZEN_EPS = 0.0
"""torchvision's eps in the frozen norms of its COCO weights (``overwrite_eps`` there)."""


def read_detector(file: str) -> dict[str, Tensor] | None:
    """Read a file if it has the weights of torchvision's Faster R-CNN, by our names; None for other files.

    Raises:
        InputError: The file has another of torchvision's detectors.
    """
    if not Path(file).is_file():
        return None
    try:
        weights = read_timms_weights(Path(file), setting="model.pretrained")
    except InputError:
        return None
    for start, kind in OTHERS.items():
        if any(name.startswith(start) for name in weights):
            raise InputError(f"model.pretrained={file!r}: has the weights of {kind}; take those of a Faster R-CNN")
    if not any(name.startswith("rpn.head.cls_logits.") for name in weights):
        return None
    return {our_name(name): tensor for name, tensor in weights.items()}


def our_name(name: str) -> str:
    """Translate torchvision's name of a weight, also of old versions."""
    parts = name.split(".")
    if parts[:3] == ["rpn", "head", "conv"] and len(parts) == 4:  # rpn.head.conv.weight, before torchvision 0.13
        name = ".".join([*parts[:3], "0", "0", parts[3]])
    if parts[:2] == ["backbone", "fpn"] and len(parts) == 5:  # backbone.fpn.inner_blocks.0.weight, likewise
        name = ".".join([*parts[:4], "0", parts[4]])
    for theirs, ours in WRAPPED.items():
        if name.startswith(theirs):
            return name.replace(theirs, ours, 1)
    return name


def to_torchvision(detector: nn.Module) -> dict[str, Tensor]:
    """Return the detector's weights by the names of torchvision's ``fasterrcnn_resnet50_fpn`` or its ``_v2``.

    The backbone must be a plain ResNet; :func:`odebackbones.to_resnet` makes one of a converted backbone.
    """
    renamed = {}
    for name, tensor in detector.state_dict().items():
        theirs = name
        for start, wrapped in WRAPPED.items():
            theirs = theirs.replace(wrapped, start, 1) if theirs.startswith(wrapped) else theirs
        renamed[theirs] = tensor
    return renamed


def load_torchvision(detector: Any, weights: Mapping[str, Tensor], *, file: str, backbone: str, heads: str) -> None:
    """Give a detector the weights of torchvision's, all but a box predictor for other classes.

    An ODE backbone gets the body as :func:`odebackbones.from_resnet` converts it, projected to its weights over time
    and its solver. Norms that torchvision has frozen get a variance that gives the same with the detector's eps.

    Args:
        detector: The detector; it keeps the record of the transfer as ``weight_transfer``.
        weights: What :func:`read_detector` returned.
        file: Name of the file, for the record and errors.
        backbone: timm's name of the detector's backbone.
        heads: The detector's heads, ``v1`` or ``v2``.

    Raises:
        InputError: The file has other heads, or another backbone.
    """
    found = next((version for start, version in HEADS.items() if any(name.startswith(start) for name in weights)), "")
    if found != heads:
        known = f"fasterrcnn_resnet50_fpn{'_v2' if found == 'v2' else ''}" if found else "an unknown detector"
        hint = f"set --model.heads {found}" if found else "take one of fasterrcnn_resnet50_fpn or its _v2"
        raise InputError(
            f"model.pretrained={file!r}: holds the weights of {known}, but model.heads is {heads!r}; {hint}"
        )
    body = {name.removeprefix(BODY): tensor for name, tensor in weights.items() if name.startswith(BODY)}
    own_body = detector.get_submodule(BODY.rstrip("."))
    given = {**weights, **{BODY + name: t for name, t in body_state(own_body, body, backbone, file=file).items()}}
    own = detector.state_dict()
    reshaped = {
        name: tuple(given[name].shape) for name in own if name in given and given[name].shape != own[name].shape
    }
    if wrong := [name for name in reshaped if not name.startswith(PREDICTOR)]:
        raise InputError(
            f"model.pretrained={file!r}: {wrong[0]} is {list(reshaped[wrong[0]])} in it, and "
            f"{list(own[wrong[0]].shape)} in the detector: set model.fpn_channels, model.box_head_size and "
            f"model.backbone as torchvision has them"
        )
    taken = [name for name in own if name in given and name not in reshaped]
    detector.load_state_dict({**own, **{name: given[name] for name in taken}})
    detector.weight_transfer = WeightTransfer(
        file,
        taken=taken,
        new=[name for name in own if name not in given],
        reshaped=reshaped,
        unused=[name for name in given if name not in own],
        network=f"torchvision's Faster R-CNN, heads {found}",
    )


def body_state(own: Any, weights: dict[str, Tensor], backbone: str, *, file: str) -> dict[str, Tensor]:
    """Return the state of the detector's backbone that torchvision's body gives.

    Raises:
        InputError: The backbone is of another architecture.
    """
    name = backbone.split(".")[0].removeprefix("ode_")
    plain: Any = own
    if has_ode_blocks(own):
        plain = timm.create_model(name, features_only=True, out_indices=tuple(own.feature_info.out_indices))
    shapes = {
        key: tensor.shape for key, tensor in plain.state_dict().items() if not key.endswith("num_batches_tracked")
    }
    wrong = [key for key, shape in shapes.items() if key not in weights or weights[key].shape != shape]
    if wrong or not shapes.keys() >= {key for key in weights if not key.endswith("num_batches_tracked")}:
        unknown = (key for key in weights if key not in shapes and not key.endswith("num_batches_tracked"))
        example = wrong[0] if wrong else next(unknown)
        raise InputError(
            f"model.pretrained={file!r}: its backbone is another one than {backbone}, first at {example}; "
            f"torchvision's COCO weights have a ResNet-50: set model.backbone to resnet50 or ode_resnet50"
        )
    state = {**plain.state_dict(), **with_eps_of(plain, weights)}
    if plain is own:
        return state
    plain.load_state_dict(state)
    return converted_state(plain.eval(), own)


def with_eps_of(body: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a body's weights with variances that give frozen norms' outputs with the norms' own eps."""
    if any(name.endswith("num_batches_tracked") for name in weights):  # trained norms, with the same eps as timm's
        return weights
    eps = {f"{name}.running_var": getattr(module, "eps", 0.0) for name, module in body.named_modules()}
    return {name: tensor + (FROZEN_EPS - eps[name]) if name in eps else tensor for name, tensor in weights.items()}


def converted_state(plain: nn.Module, own: nn.Module) -> dict[str, Tensor]:
    """Return the state of an ODE backbone like ``own`` that a trained ResNet gives."""
    converted = from_resnet(plain)
    blocks = ode_blocks(own)
    converted = change_bases(
        converted,
        [first_convolution(block).bases for block in blocks],
        norm_bases=[norm_bases(block) or 1 for block in blocks],
        basis=first_convolution(blocks[0]).basis,
    )
    for block, wanted in zip(ode_blocks(converted), blocks, strict=True):
        block.set_solver(wanted.solver)
        block.move_statistics(evaluation_times(wanted.solver, wanted.t_span, budgets=wanted.budgets))
    return converted.state_dict()
