import pytest
import torch

from depth.colors import NEAREST, color_depth, color_error, depth_shares, marks, scale_bar, stack_pictures


def test_a_depth_has_the_same_color_in_every_picture():
    near, far = torch.tensor([[2.0, 10.0]]), torch.tensor([[10.0, 70.0]])
    assert torch.equal(color_depth(near, max_depth=80)[:, 0, 1], color_depth(far, max_depth=80)[:, 0, 0])
    assert not torch.equal(color_depth(near, max_depth=80)[:, 0, 0], color_depth(near, max_depth=80)[:, 0, 1])


def test_what_is_not_known_is_gray():
    assert color_depth(torch.zeros(1, 1), max_depth=80)[:, 0, 0].tolist() == [128] * 3
    p, g = torch.full((1, 2), 4.0), torch.full((1, 2), 5.0)
    assert color_error(p, g, torch.tensor([[False, True]]))[:, 0].T.tolist()[0] == [128] * 3


def test_errors_go_from_blue_to_red():
    g = torch.full((1, 3), 10.0)
    colors = color_error(torch.tensor([[10.0, 12.5, 20.0]]), g, g > 0)[:, 0].T.int()
    assert colors[0, 2] > colors[0, 0] and colors[2, 0] > colors[2, 2]


def test_the_scale_is_logarithmic_between_its_ends():
    shares = depth_shares(torch.tensor([0.1, 2.0, 80 * NEAREST**0.5, 80.0, 200.0]), max_depth=80.0)
    assert shares.tolist() == pytest.approx([0, 0, 0.5, 1, 1], abs=1e-6)


@pytest.mark.parametrize(("limit", "expected"), [(80.0, [2, 5, 10, 20, 50]), (10.0, [0.5, 1, 2, 5, 10])])
def test_marks_are_round_depths_of_the_scale(limit, expected):
    assert marks(limit) == pytest.approx(expected)


def test_the_bar_has_the_colors_of_the_depths_and_their_marks():
    bar = scale_bar(400, max_depth=80.0)
    assert torch.equal(bar[:, 5, 0], color_depth(torch.tensor([[2.0]]), max_depth=80.0)[:, 0, 0])
    assert torch.equal(bar[:, 5, -1], color_depth(torch.tensor([[80.0]]), max_depth=80.0)[:, 0, 0])
    below = bar[:, 14:].float().mean(0)
    assert (below < 128).any(), "no marks"
    assert scale_bar(40, max_depth=80.0).shape[2] == 40


def test_pictures_are_stacked_with_a_gap():
    a, b = (torch.full((3, height, 5), value, dtype=torch.uint8) for height, value in ((2, 7), (3, 9)))
    assert stack_pictures([a, b])[0, :, 0].tolist() == [7, 7, 255, 255, 255, 255, 9, 9, 9]
