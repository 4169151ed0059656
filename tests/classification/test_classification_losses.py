"""What is learnt from labels: the witness is torch's cross-entropy, and the formulae of the papers."""

import pytest
import torch
import torch.nn.functional as F

from classification.losses import LossConfig, build_mix, label_loss
from odebackbones.errors import InputError

SCORES = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 1, 1])
IMAGES = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_smoothed_labels_give_their_share_to_all_classes():
    shares = 0.9 * F.one_hot(LABELS, 4) + 0.1 / 4
    expected = -(shares * SCORES.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(label_loss(SCORES, LABELS, LossConfig(label_smoothing=0.1)), expected)


def test_without_blending_there_is_none():
    assert build_mix(LossConfig(), num_classes=4) is None


def test_mixup_blends_images_and_labels_by_the_same_share():
    mix = build_mix(LossConfig(mixup=1.0), num_classes=4)
    torch.manual_seed(0)
    images, shares = mix(IMAGES, LABELS)
    own = IMAGES.roll(1, 0)
    share = ((images - own) / (IMAGES - own)).median()
    assert 0.01 < share < 0.99
    torch.testing.assert_close(images, share * IMAGES + (1 - share) * own)
    expected = share * F.one_hot(LABELS, 4) + (1 - share) * F.one_hot(LABELS.roll(1), 4)
    torch.testing.assert_close(shares, expected)


def test_cutmix_takes_a_rectangle_and_its_share_of_the_label():
    mix = build_mix(LossConfig(cutmix=1.0), num_classes=4)
    torch.manual_seed(3)
    images, shares = mix(IMAGES, LABELS)
    kept = (images == IMAGES).all(1).float().mean((1, 2))
    assert (kept > 0).all() and (kept < 1).all()
    differing = LABELS.roll(1) != LABELS
    found = shares.gather(1, LABELS[:, None])[:, 0]
    torch.testing.assert_close(found[differing], kept[differing])


def test_with_both_each_batch_has_one_of_them():
    mix = build_mix(LossConfig(mixup=1.0, cutmix=1.0), num_classes=4)
    cut = []
    for seed in range(20):
        torch.manual_seed(seed)
        cut.append(bool((mix(IMAGES, LABELS)[0] == IMAGES).any()))
    assert 3 < sum(cut) < 17


@pytest.mark.parametrize("config", [{"label_smoothing": 1.0}, {"mixup": -1.0}, {"cutmix": -0.1}])
def test_impossible_numbers_are_named(config):
    with pytest.raises(InputError, match=f"loss.{next(iter(config))}="):
        LossConfig(**config)
