import pytest
import torch
from torch.nn.functional import one_hot

from classification.metrics import evaluate_scores

NAMES = ("cat", "dog", "bird")


def scores_of(taken, classes=3):
    return one_hot(torch.tensor(taken), classes).float()


def test_macro_figures_are_those_of_scikit_learns_example():
    # precision_recall_fscore_support([0, 1, 2, 0, 1, 2], [0, 2, 1, 0, 0, 1], average="macro") of its documentation
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    metrics = evaluate_scores(scores_of([0, 2, 1, 0, 0, 1]), labels, NAMES)
    assert metrics.precision == pytest.approx(2 / 9)
    assert metrics.recall == pytest.approx(1 / 3)
    assert metrics.f1 == pytest.approx(4 / 15)
    assert metrics.top1 == pytest.approx(1 / 3)
    assert metrics.confusion.tolist() == [[2, 0, 0], [1, 0, 1], [0, 2, 0]]


def test_each_class_has_its_own_figures():
    metrics = evaluate_scores(scores_of([0, 0, 0, 1]), torch.tensor([0, 0, 1, 1]), NAMES)
    cat, dog, bird = metrics.per_class
    assert (cat.name, cat.images, cat.recall) == ("cat", 2, 1.0)
    assert cat.precision == pytest.approx(2 / 3)
    assert cat.f1 == pytest.approx(0.8)
    assert (dog.precision, dog.recall) == (1.0, 0.5)
    assert (bird.images, bird.precision, bird.recall, bird.f1) == (0, 0.0, 0.0, 0.0)


def test_the_fifth_place_counts_for_top5_and_the_sixth_does_not():
    ranking = torch.arange(7.0).flip(0).expand(2, 7)
    metrics = evaluate_scores(ranking, torch.tensor([4, 5]), list("abcdefg"))
    assert metrics.top5 == 0.5
    assert metrics.top1 == 0.0
