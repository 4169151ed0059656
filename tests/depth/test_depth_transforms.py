import pytest
import torch

from depth.data.transforms import AUGMENTATIONS, MAX_ZOOM, RandomCrop, flip, resize_depth, resize_pair, zoom
from odebackbones import InputError


def dense(height=40, width=60):
    """Every pixel's depth tells where it was."""
    return 1 + torch.arange(height * width, dtype=torch.float32).reshape(height, width) / 100


def sparse(height=40, width=60, share=0.05):
    return torch.where(torch.rand(height, width, generator=torch.Generator().manual_seed(0)) < share, dense(), 0.0)


def pair(depth):
    """An image in which the depth can be seen."""
    return (20 + 9 * depth).to(torch.uint8).expand(3, -1, -1).contiguous(), depth


@pytest.mark.parametrize("size", [(20, 30), (13, 31), (80, 120), (50, 70), (40, 60)])
@pytest.mark.parametrize("depth", [dense(), sparse()], ids=["dense", "sparse"])
def test_a_resized_map_has_only_depths_of_the_map(depth, size):
    found = resize_depth(depth, size)
    assert found.shape == size
    assert set(found.flatten().tolist()) <= set(depth.flatten().tolist())


def test_a_reduced_sparse_map_keeps_the_nearest_point_of_every_pixel():
    depth = torch.zeros(4, 8)
    depth[0, 0], depth[1, 1], depth[3, 7] = 7.0, 3.0, 9.0
    assert resize_depth(depth, (2, 4)).tolist() == [[3, 0, 0, 0], [0, 0, 0, 9]]
    assert (resize_depth(sparse(), (10, 15)) > 0).float().mean() > 0.5, "points were lost"


def test_a_dense_map_is_taken_at_the_pixels_middles():
    assert resize_depth(dense(4, 4), (2, 2)).tolist() == dense(4, 4)[1::2, 1::2].tolist()
    assert (
        resize_depth(dense(2, 2), (4, 4)).tolist()
        == dense(2, 2).repeat_interleave(2, 0).repeat_interleave(2, 1).tolist()
    )
    assert torch.equal(resize_depth(sparse(), (40, 60)), sparse())


def test_image_and_depth_stay_together():
    for transform in (flip, RandomCrop((24, 32)), lambda s: resize_pair(s, (20, 30))):
        for seed in range(4):
            torch.manual_seed(seed)
            image, depth = transform(pair(dense()))
            assert image.shape[1:] == depth.shape
            seen = (image[0].float() - 20) / 9
            assert (seen - depth).abs().max() < 0.7  # half a row is 0.3


def test_zooming_in_brings_nearer_by_as_much():
    """A plane at 10 m seen at twice the size is 5 m away: distances between its points stay the same."""
    factors = set()
    for seed in range(20):
        torch.manual_seed(seed)
        image, depth = zoom((torch.zeros(3, 40, 60, dtype=torch.uint8), torch.full((40, 60), 10.0)))
        factors.add(round(10 / float(depth[0, 0]), 6))
        assert image.shape[1:] == depth.shape == (40, 60)
        assert depth.unique().numel() == 1
    assert 1 <= min(factors) < 1.1 < 1.15 < max(factors) <= MAX_ZOOM


def test_a_zoomed_depth_is_that_of_the_part_that_is_seen():
    torch.manual_seed(0)
    factor = float(torch.empty(()).uniform_(1, MAX_ZOOM))
    torch.manual_seed(0)
    image, depth = zoom(pair(dense()))
    assert set((depth * factor).mul(100).round().flatten().tolist()) <= set(dense().mul(100).round().flatten().tolist())
    assert (((image[0].float() - 20) / 9) - depth * factor).abs().max() < 2


def test_flips_are_half_of_the_cases():
    torch.manual_seed(0)
    image, depth = pair(dense())
    flipped = sum(torch.equal(flip((image, depth))[1], depth.flip(-1)) for _ in range(200))
    assert 70 < flipped < 130


def test_colors_change_the_image_only():
    torch.manual_seed(0)
    color = AUGMENTATIONS["color"]()[1]
    image, depth = pair(dense())
    changed, same = color((image, depth))
    assert torch.equal(same, depth)
    assert not torch.equal(changed, image)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentation_repeats_with_the_seed_of_torch(name):
    found = []
    for _ in range(2):
        torch.manual_seed(7)
        sample = pair(dense())
        for transform in AUGMENTATIONS[name]():
            sample = transform(sample)
        found.append(sample)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_a_crop_larger_than_the_image_is_refused():
    with pytest.raises(InputError, match=r"data.crop=\[50, 60\] is larger than an image of \[40, 60\] px"):
        RandomCrop((50, 60))(pair(dense()))
