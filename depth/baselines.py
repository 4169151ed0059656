"""Baselines that ignore the image: a constant, and every pixel's median over the training set."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from depth.data.dataset import DepthDataset
from depth.data.transforms import resize_depth
from depth.metrics import THRESHOLD

LOOKED_AT = 300
"""Number of depth maps, spread over the training set, from which the baselines are computed."""

CELLS = 20_000
"""Approximate limit on the pixels of the map of medians: in a finer map, neighbors would not differ."""

TRIED = 400
"""Number of constants that are tried."""


@dataclass(frozen=True)
class Baselines:
    """Predictions that are the same for all images.

    Attributes:
        constant: Depth [m] within a factor of 1.25 of the most pixels, so that it has the best delta1 of all constants.
        median: Median depth [m] of every pixel, at a common size ``(h, w)``.
    """

    constant: float
    median: Tensor

    def predictions(self, size: tuple[int, int]) -> dict[str, Tensor]:
        """Return name -> depth ``(H, W)`` [m] for an image of ``size``."""
        median = F.interpolate(self.median[None, None], size=size, mode="bilinear")[0, 0]
        return {"best constant": torch.full(size, self.constant), "per-pixel median": median}

    def plain(self) -> dict[str, Any]:
        """Return plain data for a checkpoint."""
        return {"constant": self.constant, "median": self.median}


def fit_baselines(dataset: DepthDataset, *, cut: Callable[[Tensor], Tensor] = lambda depth: depth) -> Baselines:
    """Compute the baselines of a training set.

    Args:
        dataset: Data set whose depth maps are read.
        cut: Takes the part of a depth map ``(H, W)`` that is evaluated.
    """
    indices = np.unique(np.linspace(0, len(dataset) - 1, LOOKED_AT).round().astype(int))
    height, width = cut(dataset.depth(0)).shape
    reduction = max(1.0, (height * width / CELLS) ** 0.5)
    size = max(1, round(height / reduction)), max(1, round(width / reduction))
    stacked = torch.stack([resize_depth(cut(dataset.depth(int(i))), size) for i in indices])
    measured = stacked[stacked > 0]
    return Baselines(best_constant(measured), pixel_medians(stacked, fill=float(measured.median())))


def best_constant(depths: Tensor) -> float:
    """Find the constant within a factor of 1.25 of the most ``depths: (N,)`` [m]."""
    logs = depths.double().log().sort().values
    tried = torch.linspace(float(logs[0]), float(logs[-1]), TRIED, dtype=torch.float64)
    reach = float(np.log(THRESHOLD))
    within = torch.searchsorted(logs, tried + reach) - torch.searchsorted(logs, tried - reach)
    return float(tried[within.argmax()].exp())


def pixel_medians(maps: Tensor, *, fill: float) -> Tensor:
    """Compute the median of the measured depths of every pixel: ``(N, h, w) -> (h, w)`` [m].

    Args:
        maps: Depth maps, 0 where nothing was measured.
        fill: Depth [m] for the pixels that were measured in no map.
    """
    return torch.where(maps > 0, maps, torch.nan).nanmedian(dim=0).values.nan_to_num(nan=fill)
