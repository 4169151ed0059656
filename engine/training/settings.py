"""Settings of a run as plain data, and the differences between the settings of two runs."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict
from typing import Any

PRETRAINED = "pretrained"
"""Key in a checkpoint's metadata: which weights the network was given to start from, if any."""

CONVERTED = "converted"
"""Key in a checkpoint's metadata: which run it was converted from, if any."""


def to_dict(config: Any) -> dict[str, Any]:
    """Convert the config to plain data."""
    return asdict(config)


def with_defaults(settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Complete settings of an older version with the defaults of the groups and settings that it did not have."""
    groups = {name: {**group, **settings.get(name, {})} for name, group in defaults.items()}
    return {**settings, **groups}


def flatten_settings(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield all settings with their dotted names."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from flatten_settings(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def is_among(name: str, names: Collection[str]) -> bool:
    """Whether a setting is one of ``names``, or in a group among them."""
    return any(name == other or name.startswith(f"{other}.") for other in names)


def differences(old: Mapping[str, Any], new: Mapping[str, Any], *, free: Collection[str]) -> list[str]:
    """List the differing settings that the weights depend on; in the group ``run``, this is only the seed.

    Args:
        old: Settings of the run as it was started.
        new: Settings of the run as it is resumed.
        free: Settings and groups that the weights do not depend on.
    """
    before, after = dict(flatten_settings(old)), dict(flatten_settings(new))
    names = differing_names(old, new, free=("run", *free))
    if before.get("run.seed") != after.get("run.seed"):
        names = sorted([*names, "run.seed"])
    return [f"{name} was {before.get(name)!r}, is {after.get(name)!r}" for name in names]


def differing_names(old: Mapping[str, Any], new: Mapping[str, Any], *, free: Collection[str]) -> list[str]:
    """Return the names of the settings that differ, without the ``free`` ones, sorted."""
    before, after = dict(flatten_settings(old)), dict(flatten_settings(new))
    changed = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
    return sorted(name for name in changed if not is_among(name, free))
