"""Pictures of a classifier's mistakes."""

from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from classification.data.dataset import LabeledImages
from engine.images.drawing import add_captions, legible, png
from engine.report.records import Picture

COUNT = 12
IN_A_ROW = 4


def mistakes(images: LabeledImages, scores: Tensor) -> tuple[Picture, ...]:
    """Draw the images that were taken for another class with the highest confidence.

    Args:
        images: The evaluated data set.
        scores: Logits ``(N, C)``.
    """
    confidences, taken = scores.softmax(1).max(1)
    wrong = [i for i, label in enumerate(images.labels) if int(taken[i]) != label]
    worst = sorted(wrong, key=lambda i: -float(confidences[i]))[:COUNT]
    pictures = []
    for place, i in enumerate(worst):
        label = images.labels[i]
        truth, found = images.classes[label], images.classes[int(taken[i])]
        shown = [legible(name, f"class {number}") for name, number in ((truth, label), (found, int(taken[i])))]
        lines = [f"{shown[0]}, taken for", f"{shown[1]} ({float(confidences[i]):.2f})"]
        picture = add_captions(pil_to_tensor(images.read(i).convert("RGB")), lines)
        row = f"mistakes-{place // IN_A_ROW + 1}"
        pictures.append(Picture(f"mistake-{place + 1:02d}", f"{truth} taken for {found}", png(picture), row))
    return tuple(pictures)
