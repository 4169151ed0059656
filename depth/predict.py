"""Predicted depth as a picture and in files."""

from torch import Tensor

from depth.colors import color_depth, scale_bar, stack_pictures
from depth.config import PredictConfig
from depth.data.depth_files import LARGEST, depth_npy, depth_png
from depth.data.units import USUAL, Unit, units_per_meter
from depth.point_cloud import ply
from engine.task import Prediction
from odebackbones.errors import InputError


def depth_prediction(
    image: Tensor, depth: Tensor, config: PredictConfig, *, unit: Unit, max_depth: float
) -> Prediction:
    """Return a predicted depth in colors with a scale bar, as 16-bit PNG, as ``.npy`` and, with intrinsics, as points.

    Args:
        image: ``(3, H, W)`` uint8.
        depth: ``(H, W)`` [m].
        config: Settings of what is written.
        unit: Unit of the 16-bit PNG.
        max_depth: The model's greatest depth [m].
    """
    bar = scale_bar(image.shape[2], max_depth=max_depth)
    values = depth.numpy()
    files = {"_depth.png": depth_png(values, unit=unit), "_depth.npy": depth_npy(values)}
    if config.intrinsics:
        files["_points.ply"] = ply(depth, image, config.intrinsics)
    facts = {"least_m": float(depth.min()), "median_m": float(depth.median()), "greatest_m": float(depth.max())}
    return Prediction(
        stack_pictures([image, color_depth(depth, max_depth=max_depth), bar]), {**facts, "unit": unit}, files
    )


def roomy_unit(wanted: Unit | None, usual: Unit, *, max_depth: float) -> Unit:
    """Return the wanted unit, or else the usual one or the finest in which the greatest depth fits into 16 bits.

    Raises:
        InputError: The greatest depth does not fit in the wanted unit, or in any unit.
    """
    able = [unit for unit in (usual, *sorted(USUAL, key=units_per_meter, reverse=True)) if reach(unit) >= max_depth]
    if wanted is None and able:
        return able[0]
    if wanted is not None and reach(wanted) >= max_depth:
        return wanted
    raise InputError(
        f"predict.unit={wanted}: 16 bits hold up to {reach(wanted or usual):g} m of model.max_depth={max_depth:g} m: "
        f"take {' or '.join(dict.fromkeys(map(str, able))) or 'a number of meters'}"
    )


def reach(unit: Unit) -> float:
    """Return the greatest depth [m] that a 16-bit file can hold."""
    return LARGEST / units_per_meter(unit)
