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
                raise two_names(old, new)
            owner[now] = owner.pop(name)
    for setting, values in VALUES.items():
        *groups, name = setting.split(".")
        owner = group_in(found, groups)
        if owner is not None and isinstance(owner.get(name), str):
            owner[name] = values.get(owner[name], owner[name])
    return found


def two_names(old: str, new: str) -> InputError:
    """Build the error for a setting that is given under both names."""
    return InputError(f"{old} and {new} are two names of one setting: give {new} alone")


def old_names_in(settings: Mapping[str, Any]) -> list[str]:
    """List what :func:`current_settings` translates, as ``OLD is called NEW now``."""
    names = [
        f"{old} is called {new} now"
        for old, new in RENAMED.items()
        if old.split(".")[-1] in (group_in(dict(settings), old.split(".")[:-1]) or {})
    ]
    values = [
        f"{setting}={old} is called {setting}={new} now"
        for setting, known in VALUES.items()
        for old, new in known.items()
        if (group_in(dict(settings), setting.split(".")[:-1]) or {}).get(setting.split(".")[-1]) == old
    ]
    return names + values


def group_in(settings: dict[str, Any], names: list[str]) -> dict[str, Any] | None:
    """Return the group of settings under these nested names, or None if there is none."""
    group: Any = settings
    for name in names:
        group = group.get(name) if isinstance(group, dict) else None
    return group if isinstance(group, dict) else None


def current_arguments(arguments: list[str]) -> list[str]:
    """Translate command-line arguments, and files of settings, to current names and values, with a warning for each.

    Raises:
        InputError: A setting is given under both names.
    """
    options = {argument.partition("=")[0] for argument in arguments}
    found = list(arguments)
    for i, argument in enumerate(arguments):
        option, mark, value = argument.partition("=")
        name = current_option(option)
        if name != option:
            if name in options:
                raise two_names(option.removeprefix("--"), name.removeprefix("--"))
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
        warn(f"{option}={value} is called {option}={now} now")
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
    """Return the path, or the file's translated settings if it has old names; the parser reports unreadable files.

    Raises:
        InputError: The file is not YAML, or holds no settings.
    """
    file = Path(path).expanduser()
    try:
        is_file = file.is_file()
    except OSError:  # settings in place of a path may be too long for one
        is_file = False
    if not is_file:
        return path
    try:
        settings = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return path
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(f"--config {path}: not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(settings, dict):
        found = "is empty" if settings is None else f"holds {str(settings)[:50]!r}"
        raise InputError(f"--config {path}: {found}; expected groups of settings, such as model: and data:")
    if (now := current_settings(settings)) == settings:
        return path
    warn(f"{path}: has names from before 0.2.0: {', '.join(old_names_in(settings))}")
    return json.dumps(now)
