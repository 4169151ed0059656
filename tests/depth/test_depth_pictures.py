import torch

from depth.colors import ERROR_RANGE, GRAY
from depth.evaluate import Comparison, EvalConfig
from depth.pictures import WIDTH, example, layout

COMPARISON = Comparison(EvalConfig(), max_depth=10.0)


def rows_of(picture, size, columns):
    """The four parts of an example."""
    height, width = size
    places = [(divmod(i, columns)) for i in range(4)]
    return [picture[:, (height + 4) * r : (height + 4) * r + height, width * c : width * (c + 1)] for r, c in places]


def test_wide_images_stand_above_each_other_and_others_in_a_square():
    assert layout(100, 400) == ((WIDTH // 4, WIDTH), 1)
    assert layout(480, 640) == ((240, 320), 2)


def test_an_example_shows_the_image_and_the_error_where_the_depth_counts_and_gray_elsewhere():
    size, columns = layout(48, 64)
    truth = torch.full((48, 64), 4.0)
    truth[:, :20] = 0
    truth[::2, 20:40] = 0  # half of these were not measured
    prediction = torch.full((48, 64), 4.0)
    prediction[:, 50:] = 4.0 * (1 + 2 * ERROR_RANGE)
    image = torch.rand(3, 48, 64)
    shown, known, predicted, error = rows_of(example(image, truth, prediction, COMPARISON), size, columns)
    assert abs(shown.float().mean() / 255 - image.mean()) < 0.02
    for part in (known, error):
        assert (part[:, :, : 20 * 5 - 8] == GRAY).all()
    assert (predicted != GRAY).any(dim=0).all()
    right, left = error[:, 100, -20:].float().mean(1), error[:, 100, 45 * 5].float()
    assert right[0] > right[2], "twice the range is red"
    assert left[2] > left[0], "no error is blue"
    assert not ((error[0].int() - error[2].int() > 60) & (torch.arange(320) < 48 * 5)).any(), (
        "red where nothing is known"
    )


def test_a_picture_of_a_sparse_map_keeps_its_points():
    truth = torch.zeros(96, 320)
    truth[::8, ::8] = 5.0
    size, columns = layout(96, 320)
    picture = example(torch.rand(3, 96, 320), truth, torch.full((96, 320), 5.0), COMPARISON)
    known = rows_of(picture, size, columns)[1]
    assert 0 < (known != GRAY).any(dim=0).float().mean() < 0.2
