"""What frozen features tell of classes: nearest class mean, nearest neighbours, and a linear probe."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

NEIGHBOURS = 5

RIDGE = 1.0
"""Ridge parameter of the linear probe, on standardized features, in units of the number of images."""


def probe_accuracies(features: Tensor, labels: Tensor, tests: Tensor, test_labels: Tensor) -> Mapping[str, float]:
    """Return the top-1 accuracy [%] of three probes.

    The linear probe is a ridge regression of the classes, one-hot, on standardized features: it has a closed form.

    Args:
        features: ``(N, C)``, of images whose classes are known.
        labels: Their classes, ``(N,)``.
        tests: ``(M, C)``.
        test_labels: ``(M,)``.
    """
    mean, deviation = features.mean(0), features.std(0) + 1e-6
    features, tests = (features - mean) / deviation, (tests - mean) / deviation
    classes = F.one_hot(labels).to(features.dtype)
    means = classes.T @ features / classes.sum(0)[:, None]
    near = F.normalize(tests, dim=1) @ F.normalize(features, dim=1).T
    voters = labels[near.topk(NEIGHBOURS, dim=1).indices]
    kernel = features @ features.T + RIDGE * len(features) * torch.eye(len(features), dtype=features.dtype)
    weights = features.T @ torch.linalg.solve(kernel, classes - classes.mean(0))
    guesses = {
        "nearest class mean": torch.cdist(tests, means).argmin(1),
        f"{NEIGHBOURS} nearest neighbours": voters.mode(1).values,
        "linear probe": (tests @ weights).argmax(1),
    }
    return {name: 100 * float((guess == test_labels).double().mean()) for name, guess in guesses.items()}
