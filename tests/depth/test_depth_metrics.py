"""The figures, against numbers made by hand and against the formulae written out with NumPy."""

import numpy as np
import pytest
import torch

from depth.metrics import FIGURES, average_images, figures, pixel_sums, pool_pixels

PREDICTED, TRUE = torch.tensor([2.0, 5.0]), torch.tensor([4.0, 4.0])
LN2, LN_5_4 = np.log(2), np.log(1.25)
BY_HAND = {  # errors -2 and 1; relative -1/2 and 1/4
    "abs_rel": 0.375,
    "sq_rel": (4 / 4 + 1 / 4) / 2,
    "rmse": np.sqrt(2.5),
    "rmse_log": np.sqrt((LN2**2 + LN_5_4**2) / 2),
    "log10": (np.log10(2) + np.log10(1.25)) / 2,
    "silog": 100 * np.sqrt((LN2**2 + LN_5_4**2) / 2 - ((LN_5_4 - LN2) / 2) ** 2),
    "mae": 1.5,
    "iRMSE": 1000 * np.sqrt((0.25**2 + 0.05**2) / 2),
    "iMAE": 150.0,
    "sqErrorRel": 100 * (0.25 + 0.0625) / 2,
    "delta1": 0.0,  # 1.25 is not below 1.25
    "delta2": 0.5,
    "delta3": 0.5,  # 2 is beyond 1.953
}


def by_numpy(p, g):
    """Written out once more, each figure by itself."""
    r = np.maximum(p / g, g / p)
    log = np.log(p) - np.log(g)
    return {
        "abs_rel": np.mean(np.abs(p - g) / g),
        "sq_rel": np.mean((p - g) ** 2 / g),
        "rmse": np.sqrt(np.mean((p - g) ** 2)),
        "rmse_log": np.sqrt(np.mean(log**2)),
        "log10": np.mean(np.abs(np.log10(p) - np.log10(g))),
        "silog": 100 * np.std(log),
        "mae": np.mean(np.abs(p - g)),
        "iRMSE": np.sqrt(np.mean((1000 / p - 1000 / g) ** 2)),
        "iMAE": np.mean(np.abs(1000 / p - 1000 / g)),
        "sqErrorRel": 100 * np.mean(((p - g) / g) ** 2),
        **{f"delta{k}": np.mean(r < 1.25**k) for k in (1, 2, 3)},
    }


def depths(seed, pixels=1000):
    draw = np.random.default_rng(seed)
    truth = draw.uniform(1, 80, pixels)
    return truth * np.exp(draw.normal(0.1, 0.3, pixels)), truth


def sums(p, g):
    return pixel_sums(torch.as_tensor(p), torch.as_tensor(g))


def test_every_figure_is_the_one_computed_by_hand():
    assert figures(sums(PREDICTED, TRUE)) == pytest.approx(BY_HAND)
    assert BY_HAND.keys() == FIGURES.keys()


def test_every_figure_follows_its_published_formula():
    p, g = depths(0)
    assert figures(sums(p, g)) == pytest.approx(by_numpy(p, g))


def test_a_perfect_prediction_has_no_error():
    _, g = depths(0)
    found = figures(sums(g, g))
    assert found == {name: 1.0 if name.startswith("delta") else 0.0 for name in FIGURES}


def test_silog_does_not_see_a_scale_and_the_others_do():
    p, g = depths(0)
    once, twice = figures(sums(p, g)), figures(sums(2 * p, g))
    assert twice["silog"] == pytest.approx(once["silog"])
    assert all(twice[name] != pytest.approx(once[name], rel=0.01) for name in FIGURES if name != "silog")


def test_a_mean_over_images_counts_images_and_a_pooled_figure_pixels():
    pairs = [depths(0, 10), depths(1, 1000)]
    images = [sums(p, g) for p, g in pairs]
    each = [by_numpy(p, g) for p, g in pairs]
    assert average_images(images) == pytest.approx({name: (each[0][name] + each[1][name]) / 2 for name in FIGURES})
    together = by_numpy(*(np.concatenate(parts) for parts in zip(*pairs, strict=True)))
    assert pool_pixels(images) == pytest.approx(together)
    assert pool_pixels(images)["rmse"] != pytest.approx(average_images(images)["rmse"], rel=0.01)


@pytest.mark.slow
def test_float32_images_of_many_pixels_are_summed_without_loss():
    g = torch.full((2_000_000,), 79.9)
    assert figures(pixel_sums(g + 0.1, g))["rmse"] == pytest.approx(0.1, rel=1e-4)
