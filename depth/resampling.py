"""The figures of depth maps in resamples of the images."""

from collections.abc import Sequence

import numpy as np

from depth.metrics import FIGURES, PixelSums, figures
from engine.measure.resampling import image_weights, resampled_means


def resample_images(images: Sequence[PixelSums]) -> dict[str, np.ndarray]:
    """Return every figure as a mean over the images, and over all pixels, in every resample.

    Args:
        images: Sums of images that have pixels that count.
    """
    each = np.array([list(figures(sums).values()) for sums in images])
    averaged = dict(zip(FIGURES, resampled_means(each), strict=True))
    sums = np.array([[image.pixels, *image.sums] for image in images], dtype=np.float64)
    totals = image_weights(len(images)).T.astype(np.float64) @ sums
    pooled = [list(figures(PixelSums(row[0], tuple(row[1:]))).values()) for row in totals.tolist()]
    return averaged | {f"{name}, pooled": values for name, values in zip(FIGURES, np.array(pooled).T, strict=True)}
