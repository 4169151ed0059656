"""Units of depth maps: the length that 1 in a file stands for."""

import re

from odebackbones.errors import InputError

Unit = float | str
"""Number of meters that 1 in the file stands for, or the name of a unit of whole numbers, with floats in meters."""

NAMED: dict[str, float] = {"mm": 1000.0, "cm": 100.0}
"""Name -> number of units per meter."""

PARTS = re.compile(r"m/(\d+\.?\d*)")
"""Pattern of further names: ``m/256`` (KITTI), ``m/5000`` (TUM), ..."""

USUAL = ("m/256", "mm", "cm", "m/4000", "m/5000", "m/10000")
"""Common units of whole numbers: KITTI; NYU, ScanNet and most cameras; Unreal; RGB-D SLAM data."""


def units_per_meter(unit: Unit, *, setting: str = "data.unit") -> float:
    """Return the number of units per meter.

    Raises:
        InputError: There is no such unit.
    """
    if unit in NAMED:
        return NAMED[str(unit)]
    parts = PARTS.fullmatch(str(unit))
    meters = number(unit) if parts is None else 1.0
    found = float(parts[1]) if parts else 1.0 / meters if meters > 0 else 0.0
    if isinstance(unit, bool) or not 0.0 < found < float("inf"):
        raise InputError(
            f"{setting}={unit!r}: expected mm, cm, m/256 (KITTI), m/5000 (TUM) or the like, or a number, the meters of "
            f"1 in the file (0.0002 is m/5000)"
        )
    return found


def number(unit: Unit) -> float:
    """Return the unit as a number, or 0 if it is a name."""
    try:
        return float(unit)
    except ValueError:
        return 0.0


def meters_of_float(unit: Unit) -> float:
    """Return the meters that 1.0 in a file of floats stands for; a unit's name does not apply to floats."""
    return number(unit) or 1.0


def unit_name(unit: Unit) -> str:
    """Return the unit in words."""
    return f"units of {number(unit):g} m" if number(unit) else str(unit)
