"""Settings under their names from before 0.2.0, when each task had its own names."""

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
"""Old name of a setting -> its current name."""

VALUES = {"data.augment": {"hflip": "flip"}}
"""Setting -> old name of a value -> current name of the value."""


def current_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Translate settings, in groups, to current names and values.

    Raises:
        InputError: A setting is given under both names.
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
    """Return the group of settings under these nested names, or None if there is none."""
    group: Any = settings
    for name in names:
        group = group.get(name) if isinstance(group, dict) else None
    return group if isinstance(group, dict) else None


def current_arguments(arguments: list[str]) -> list[str]:
    """Translate command-line arguments, and files of settings, to current names and values, with a warning for each."""
    found = list(arguments)
    for i, argument in enumerate(arguments):
        option, mark, value = argument.partition("=")
        name = current_option(option)
        if name != option:
            warn(f"{option} is called {name} now")
        found[i] = name + mark + (current_value(name, value) if mark else "")
        follows_option = i > 0 and arguments[i - 1].startswith("--") and "=" not in arguments[i - 1]
        if follows_option and not argument.startswith("--"):
            found[i] = current_value(found[i - 1], argument)
    return found


def current_option(option: str) -> str:
    """Translate an option's name: ``--model.args.steps`` becomes ``--model.backbone_args.steps``."""
    for old, new in RENAMED.items():
        if option == f"--{old}" or option.startswith(f"--{old}."):
            return f"--{new}{option.removeprefix(f'--{old}')}"
    return option


def current_value(option: str, value: str) -> str:
    """Translate an option's value; for ``--config``, return the settings of the file if it has old names."""
    if option == "--config":
        return current_file(value)
    if any(old.startswith(f"{option.removeprefix('--')}.") for old in RENAMED):
        return current_group(option.removeprefix("--"), value)
    now = VALUES.get(option.removeprefix("--"), {}).get(value, value)
    if now != value:
        warn(f"{option}={value} is called {now} now")
    return now


def current_group(name: str, value: str) -> str:
    """Translate a group of settings given as one value, such as ``--distillation.teacher='{name: resnet18}'``."""
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
    """Return the path, or the file's translated settings if it has old names; the parser reports unreadable files."""
    try:
        settings = yaml.safe_load(Path(path).expanduser().read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError, yaml.YAMLError):
        return path
    if not isinstance(settings, dict) or (now := current_settings(settings)) == settings:
        return path
    warn(f"{path}: has settings by the names of before 0.2.0; see CHANGELOG.md for today's")
    return json.dumps(now)
