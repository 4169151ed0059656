"""Settings that an evaluation overrides: which of them matter to it, and how its report states them."""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from engine.config import OptimConfig
from engine.report.records import OTHER_DATA, OVERRIDDEN, UNSTATED
from engine.task import Task
from engine.training.settings import differing_names, flatten_settings, is_among, to_dict, with_defaults

OF_EVALUATION = ("amp", "channels_last")
"""Settings of the optimization that hold for evaluations, too."""

OF_TRAINING = (
    *("run", "distillation", "anytime", "loss", "predict"),
    *(f"optim.{each.name}" for each in fields(OptimConfig) if each.name not in OF_EVALUATION),
    *(f"data.{name}" for name in ("augment", "check_unit", "crop", "download", "in_memory", "train", "train_images")),
    *("data.strict", "data.verify", "data.workers", "data.shapes.train_images", "data.scenes.train_images"),
    *(f"model.{name}" for name in ("backbone", "backbone_args", "checkpoint", "frozen_norm", "frozen_stages")),
    *(f"model.{name}" for name in ("pretrained", "proposals_train", "rpn_batch_size", "box_batch_size")),
)
"""Settings, and groups of them, that change no figure of a trained model; changes of its backbone are told apart."""

STATED = (
    *(f"data.{name}" for name in ("format", "image_size", "root", "scenes", "shapes", "size", "val", "val_images")),
    *(f"model.{name}" for name in ("detections", "max_size", "min_size", "score_threshold")),
    *("eval.flip", "eval.median_scaling", "eval.protocol"),
)
"""Settings, and groups of them, that a report's other facts show: its data set, image size and protocol."""


def overridden_settings(task: type[Task], trained: Mapping[str, Any], config: Any) -> dict[str, Any]:
    """Return the settings on which an evaluation depends, and that differ from the trained ones, with their values."""
    own, now = with_defaults(trained, to_dict(task.config_class())), to_dict(config)
    values = dict(flatten_settings(now))
    names = differing_names(own, now, free=(*task.free_settings, *OF_TRAINING))
    return {name: values[name] for name in names if name in values}


def override_facts(overridden: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the facts that state overridden settings; those that no other fact shows must agree in a comparison."""
    told = {
        OVERRIDDEN: [name for name in overridden if not name.startswith("data.")],
        OTHER_DATA: [name for name in overridden if name.startswith("data.")],
        UNSTATED: [name for name in overridden if not is_among(name, STATED)],
    }
    for fact, names in told.items():
        if names:
            yield fact, ", ".join(f"{name}={overridden[name]}" for name in names)
