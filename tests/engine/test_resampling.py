"""Intervals by resampling the images: their coverage, and what they say of equal models."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from classification.metrics import evaluate_scores
from classification.resampling import resample_scores
from depth.metrics import average_images, pixel_sums, pool_pixels
from depth.resampling import resample_images
from engine.measure.resampling import (
    RESAMPLES,
    difference_interval,
    image_weights,
    interval,
    resampled_means,
    with_resamples,
)
from engine.report.files import read_report, write_report
from engine.report.records import Quantity, Report
from odebackbones.errors import InputError


def covered(draw, mean, *, images, trials=600):
    """Share of trials in which the interval of a mean holds the true one."""
    random, held = np.random.default_rng(0), 0
    for _ in range(trials):
        scores = draw(random, images)
        low, high = interval(scores.mean(), resampled_means(scores[:, None])[0], images=images)
        held += low <= mean <= high
    return held / trials


@pytest.mark.parametrize("images", [20, 80, 500])
def test_intervals_hold_the_true_mean_of_scores_as_often_as_they_say(images):
    assert 0.93 <= covered(lambda random, n: random.beta(4, 2, n), 2 / 3, images=images) <= 0.97


def test_intervals_hold_a_true_accuracy_as_often_as_they_say():
    assert 0.93 <= covered(lambda random, n: (random.uniform(size=n) < 0.7).astype(float), 0.7, images=200) <= 0.97


def report(scores):
    quantity = Quantity("score", float(scores.mean()), better="higher")
    names = [f"{i}.png" for i in range(len(scores))]
    return with_resamples(Report("a", "a", {}, (quantity,)), {"score": resampled_means(scores[:, None])[0]}, names)


def called_different(gap, *, images, trials):
    """Share of trials in which two models are told apart, whose scores share the images' difficulty."""
    random, told = np.random.default_rng(1), 0
    for _ in range(trials):
        difficulty = random.normal(0, 0.2, images)
        a, b = (report(0.5 + shift + difficulty + random.normal(0, 0.1, images)) for shift in (0.0, gap))
        low, high = difference_interval(a.resamples, b.resamples, "score")
        told += low > 0 or high < 0
    return told / trials


def test_equal_models_are_seldom_called_different_and_three_points_are_seen_on_500_images():
    assert called_different(0.0, images=100, trials=400) <= 0.07
    assert called_different(0.03, images=500, trials=100) >= 0.95


@pytest.mark.parametrize(("better", "told"), [(4, False), (5, False), (8, True)])
def test_a_few_images_make_no_difference_as_in_the_sign_test(better, told):
    """4 and 5 of 100 images that only one of two models gets right: p = 0.125 and 0.0625; 8: 0.008."""
    right = np.zeros(100)
    right[:60] = 1
    more = right.copy()
    more[60 : 60 + better] = 1
    low, high = difference_interval(report(right).resamples, report(more).resamples, "score")
    assert low <= better / 100 <= high and (low > 0) == told


def test_what_a_few_images_have_gets_no_interval_and_a_note():
    scores = np.where(np.arange(100) < 3, 0.5, np.nan)
    weights = image_weights(100)
    present = ~np.isnan(scores)
    with np.errstate(invalid="ignore"):
        resampled = np.nan_to_num(scores) @ weights / (present @ weights)
    quantities = (Quantity("rare", 0.5, better="higher"), Quantity("alike", 1.0, better="higher"))
    found = with_resamples(
        Report("a", "a", {}, quantities), {"rare": resampled, "alike": np.ones(RESAMPLES)}, list(map(str, range(100)))
    )
    assert [q.interval for q in found.quantities] == [None, None]
    assert found.notes[0].endswith(": rare, alike.")


def test_an_interval_ends_where_the_figure_does():
    low, high = report(np.arange(10) < 9).quantities[0].interval
    assert 0 < low < 0.9 and high == 1.0


def test_every_image_is_drawn_as_often_and_for_every_model_alike():
    weights = image_weights(50)
    assert weights.shape == (50, RESAMPLES) and (weights.sum(0) == 50).all()
    assert np.abs(weights.mean(1) - 1).max() < 0.15 and image_weights(50) is weights


def test_a_report_keeps_its_resamples(tmp_path):
    before = report(np.random.default_rng(0).uniform(size=30))
    write_report(before, tmp_path)
    after = read_report(tmp_path)
    assert after == before and after.resamples.digest == before.resamples.digest
    assert after.resamples.values == before.resamples.values
    assert np.array_equal(after.resamples.figures["score"], before.resamples.figures["score"])
    low, high = after.quantities[0].interval
    assert low < after.quantities[0].value < high
    assert f"{low:.3f} to {high:.3f}"[:9] in (tmp_path / "report.md").read_text()


def test_one_image_tells_nothing(tmp_path):
    assert interval(0.5, np.full(RESAMPLES, 0.5), images=1) is None
    write_report(report(np.array([0.5])), tmp_path)
    assert read_report(tmp_path).quantities[0].interval is None


def test_a_report_without_resamples_takes_none_that_another_left_in_its_folder(tmp_path):
    before = report(np.random.default_rng(0).uniform(size=30))
    write_report(before, tmp_path)
    write_report(replace(before, resamples=None), tmp_path)
    assert read_report(tmp_path).resamples is None


def test_damaged_or_foreign_resamples_are_not_taken(tmp_path):
    for name, seed in (("one", 0), ("other", 1)):  # of the same images
        write_report(report(np.random.default_rng(seed).uniform(size=30)), tmp_path / name)
    (tmp_path / "one/resamples.npz").write_bytes((tmp_path / "other/resamples.npz").read_bytes())
    with pytest.raises(InputError, match="of another evaluation than the report"):
        read_report(tmp_path / "one")
    for content in (b"PK no zip", b""):
        (tmp_path / "other/resamples.npz").write_bytes(content)
        with pytest.raises(InputError, match=r"resamples.npz' is damaged"):
            read_report(tmp_path / "other")


def test_classification_is_resampled_as_its_metrics_are_computed():
    torch.manual_seed(0)
    scores, labels = torch.randn(40, 7), torch.randint(7, (40,))
    found, weights = resample_scores(scores, labels), image_weights(40)[:, 3].astype(int)
    chosen = torch.from_numpy(np.repeat(np.arange(40), weights))
    metrics = evaluate_scores(scores[chosen], labels[chosen], [str(i) for i in range(7)])
    expected = {
        "top-1 accuracy": metrics.top1,
        "top-5 accuracy": metrics.top5,
        "precision (macro)": metrics.precision,
        "recall (macro)": metrics.recall,
        "F1 (macro)": metrics.f1,
    }
    assert {name: values[3] for name, values in found.items()} == pytest.approx(expected, rel=1e-5)


def test_depth_is_resampled_as_its_figures_are_computed():
    torch.manual_seed(0)
    images = [pixel_sums(torch.rand(n) + 1, torch.rand(n) + 1) for n in (5, 9, 20, 3)]
    found, weights = resample_images(images), image_weights(4)[:, 7].astype(int)
    chosen = [image for image, weight in zip(images, weights, strict=True) for _ in range(weight)]
    expected = average_images(chosen) | {f"{name}, pooled": value for name, value in pool_pixels(chosen).items()}
    assert {name: values[7] for name, values in found.items()} == pytest.approx(expected, rel=1e-5)
