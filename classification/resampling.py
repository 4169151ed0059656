"""The metrics of a classifier in resamples of the images."""

import numpy as np
from torch import Tensor

from classification.metrics import TOP_K
from engine.measure.resampling import image_weights, resampled_means


def resample_scores(scores: Tensor, labels: Tensor) -> dict[str, np.ndarray]:
    """Return top-1 and top-5 accuracy, and macro precision, recall and F1, in every resample.

    Args:
        scores: ``(N, C)``.
        labels: ``(N,)`` in 0..C-1.
    """
    classes = scores.shape[1]
    ranked = (scores.topk(min(TOP_K, classes), dim=1).indices == labels[:, None]).double().numpy()
    top1, top5 = resampled_means(np.stack([ranked[:, 0], ranked.sum(1)], axis=1))
    weights, one_of = image_weights(len(labels)), np.eye(classes, dtype=np.float32)
    truth, taken = one_of[labels.numpy()], one_of[scores.argmax(1).numpy()]
    images, assigned, hits = (each.T @ weights for each in (truth, taken, truth * taken))
    precision, recall, f1 = (
        (part / np.maximum(whole, 1)).mean(0)
        for part, whole in ((hits, assigned), (hits, images), (2 * hits, images + assigned))
    )
    return {
        "top-1 accuracy": top1,
        "top-5 accuracy": top5,
        "precision (macro)": precision,
        "recall (macro)": recall,
        "F1 (macro)": f1,
    }
