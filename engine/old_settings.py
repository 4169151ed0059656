"""Settings by the names that they had before 0.2.0, when each task had names of its own."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from engine.log import warn
from odebackbones.errors import InputError

RENAMED = {
    "data.dataset": "data.format",
    "model.name": "model.backbone",
    "model.args": "model.backbone_args",
    "distillation.teacher.name": "distillation.teacher.backbone",
    "distillation.teacher.args": "distillation.teacher.backbone_args",
}
"""A setting's old name -> its name now."""

VALUES = {"data.augment": {"hflip": "flip"}}
"""A setting -> what a value of it was called -> what it is called now."""


def current_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The same settings, in groups, by today's names and values.

    Raises:
        InputError: A setting is there by both names.
    """
    found = copy.deepcopy(dict(settings))
    for old, new in RENAMED.items():
        (*groups, name), now = old.split("."), new.split(".")[-1]
        owner = group_in(found, groups)
        if owner is not None and name in owner:
            if now in owner:
                raise InputError(f"{old} and {new} are two names of one setting: give {new} alone")
            owner[now] = owner.pop(name)
    for setting, values in VALUES.items():
        *groups, name = setting.split(".")
        owner = group_in(found, groups)
        if owner is not None and isinstance(owner.get(name), str):
            owner[name] = values.get(owner[name], owner[name])
    return found


def group_in(settings: dict[str, Any], names: list[str]) -> dict[str, Any] | None:
    """The group of settings of these names, one in the other, if there is one."""
    group: Any = settings
    for name in names:
        group = group.get(name) if isinstance(group, dict) else None
    return group if isinstance(group, dict) else None


def current_arguments(arguments: list[str]) -> list[str]:
    """The same command-line arguments by today's names and values, files of settings included, with a line for each."""
    found = list(arguments)
    for i, argument in enumerate(arguments):
        option, mark, value = argument.partition("=")
        name = current_option(option)
        if name != option:
            warn(f"{option} is called {name} now")
        found[i] = name + mark + (current_value(name, value) if mark else "")
        is_value = i > 0 and arguments[i - 1].startswith("--") and "=" not in arguments[i - 1]
        if is_value:
            found[i] = current_value(found[i - 1], argument)
    return found


def current_option(option: str) -> str:
    """An option of today's name: ``--model.args.steps`` becomes ``--model.backbone_args.steps``."""
    for old, new in RENAMED.items():
        if option == f"--{old}" or option.startswith(f"--{old}."):
            return f"--{new}{option.removeprefix(f'--{old}')}"
    return option


def current_value(option: str, value: str) -> str:
    """An option's value of today's name; of ``--config`` the settings of the file, if it has old names."""
    if option == "--config":
        return current_file(value)
    if any(old.startswith(f"{option.removeprefix('--')}.") for old in RENAMED):
        return current_group(option.removeprefix("--"), value)
    now = VALUES.get(option.removeprefix("--"), {}).get(value, value)
    if now != value:
        warn(f"{option}={value} is called {now} now")
    return now


def current_group(name: str, value: str) -> str:
    """A group of settings as one value, ``--distillation.teacher='{name: resnet18}'``, by today's names."""
    try:
        group = yaml.safe_load(value)
    except yaml.YAMLError:
        return value
    if not isinstance(group, dict):
        return value
    nested: Any = group
    for part in reversed(name.split(".")):
        nested = {part: nested}
    now = group_in(current_settings(nested), name.split("."))
    if now == group:
        return value
    warn(f"--{name}={value} is {now} by today's names")
    return json.dumps(now)


def current_file(path: str) -> str:
    """A file of settings, or, if it has old names, its settings by today's; the parser says what can't be read."""
    try:
        settings = yaml.safe_load(Path(path).expanduser().read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError, yaml.YAMLError):
        return path
    if not isinstance(settings, dict) or (now := current_settings(settings)) == settings:
        return path
    warn(f"{path}: has settings by the names of before 0.2.0; see CHANGELOG.md for today's")
    return json.dumps(now)
