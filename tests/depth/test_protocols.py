"""The protocols' crops by their published numbers, and what counts."""

import pytest
import torch

from depth.evaluate import MODEL, Comparison, EvalConfig
from depth.protocols import eigen_crop, evaluated_truth, evaluation_pair, garg_crop, kb_crop, nyu_crop, prepare
from odebackbones import InputError


def bounds(region):
    return [(part.start, part.stop) for part in region]


def test_crops_are_those_of_the_papers_code():
    assert bounds(kb_crop(375, 1242)) == [(23, 375), (13, 1229)]
    assert bounds(kb_crop(370, 1224)) == [(18, 370), (4, 1220)]
    assert bounds(garg_crop(375, 1242)) == [(153, 371), (44, 1197)]
    assert bounds(garg_crop(352, 1216)) == [(143, 349), (43, 1172)]
    assert bounds(eigen_crop(375, 1242)) == [(124, 342), (44, 1197)]
    assert bounds(nyu_crop(480, 640)) == [(45, 471), (41, 601)]


def test_images_that_a_crop_does_not_fit_are_refused():
    with pytest.raises(InputError, match="an image of 300x1242 px has no KB crop"):
        kb_crop(300, 1242)
    with pytest.raises(InputError, match="protocol nyu is for 480x640 px, and an image has 240x320"):
        nyu_crop(240, 320)


def test_pixels_count_inside_the_crop_and_between_the_depths():
    truth = torch.full((375, 1242), 20.0)
    truth[200, 100], truth[200, 101], truth[200, 102] = 0.0, 80.0, 79.9
    counted = comparison(protocol="kitti-eigen-garg").counted(evaluated_truth(truth, "kitti-eigen-garg"))
    assert counted[200, 100:103].tolist() == [False, False, True]
    assert counted.sum() == (371 - 153) * (1197 - 44) - 2
    assert comparison().counted(evaluated_truth(truth, "raw")).sum() == 0, "raw takes the model's depth"


def place():
    """An image and a depth map whose values tell the row and the column."""
    truth = 1 + torch.arange(375)[:, None] / 10 + torch.arange(1242) / 1e5
    return truth.expand(3, -1, -1), truth


@pytest.mark.parametrize(
    ("protocol", "rows", "columns"),
    [
        ("kitti-eigen-kb-garg", (23 + 143, 23 + 349), (13 + 43, 13 + 1172)),  # Garg's crop of the frame
        ("kitti-eigen-bts", (153, 371), (44, 1197)),  # Garg's crop of the whole image
    ],
)
def test_the_model_sees_the_kb_crop_and_what_counts_is_gargs_of_it_or_of_the_whole(protocol, rows, columns):
    whole = place()[1]
    image, truth = evaluation_pair(place(), protocol=protocol)
    assert image.shape[1:] == truth.shape == (352, 1216)
    assert torch.equal(image[0], whole[23:, 13:1229])
    assert torch.equal(truth[truth > 0], whole[slice(*rows), slice(*columns)].flatten())
    assert torch.equal(truth[truth > 0], image[0][truth > 0]), "image and truth are apart"


def test_a_prediction_is_resized_bilinearly_and_clamped_and_the_truth_left_alone():
    truth = torch.full((4, 8), 5.0)
    prediction = torch.arange(8.0).reshape(2, 4) * 20
    expected = torch.nn.functional.interpolate(prediction[None, None], size=(4, 8), mode="bilinear")[0, 0]
    found = prepare(prediction, truth, truth > 0, bounds=(1e-3, 80.0), median=False)
    assert torch.equal(found, expected.clamp(1e-3, 80))
    assert (found.min(), found.max()) == (pytest.approx(1e-3), 80)


def test_median_scaling_makes_the_medians_of_the_counted_pixels_equal():
    draw = torch.Generator().manual_seed(0)
    truth, prediction = (1 + 9 * torch.rand(20, 30, generator=draw) for _ in range(2))
    counted = torch.rand(20, 30, generator=draw) < 0.3
    found = prepare(3 * prediction, truth, counted, bounds=(1e-3, 80.0), median=True)
    assert found[counted].quantile(0.5) == pytest.approx(float(truth[counted].quantile(0.5)))
    again = prepare(7 * prediction, truth, counted, bounds=(1e-3, 80.0), median=True)
    torch.testing.assert_close(found, again)


def comparison(**kwargs):
    return Comparison(EvalConfig(**kwargs), max_depth=10.0)


def test_images_without_a_pixel_that_counts_are_left_aside_and_said():
    compare = comparison()
    truths = [torch.full((2, 2), 4.0), torch.zeros(2, 2), torch.full((2, 2), 2.0)]
    results = [compare.image(i, {MODEL: torch.full((2, 2), 4.0)}, truth) for i, truth in enumerate(truths)]
    metrics = compare.metrics(reversed(results))
    assert (len(metrics.counted), metrics.skipped) == (2, 1)
    assert metrics.averaged[MODEL]["abs_rel"] == pytest.approx(0.5)
    with pytest.raises(InputError, match=r"no pixel of 1 images counts by the protocol: all pixels .* 0.001 to 10 m"):
        compare.metrics([results[1]])


def test_the_error_over_distance_is_that_of_the_pixels_at_it():
    compare = comparison()
    truth = torch.tensor([[0.5, 0.9, 4.5, 9.99]])
    prediction = torch.tensor([[1.0, 0.9, 9.0, 9.99]])
    metrics = compare.metrics([compare.image(0, {MODEL: prediction}, truth)])
    expected = [0.5, None, None, None, 1.0, None, None, None, None, 0.0]
    assert [None if e != e else e for e in metrics.error_over_distance] == pytest.approx(expected)
    assert metrics.distances == pytest.approx(range(1, 11))


def test_an_image_that_two_processes_evaluated_counts_once():
    compare = comparison()
    result = compare.image(0, {MODEL: torch.full((2, 2), 4.0)}, torch.full((2, 2), 5.0))
    assert len(compare.metrics([result, result]).counted) == 1


def test_an_unknown_protocol_is_refused_with_the_near_ones():
    with pytest.raises(InputError, match=r"unknown eval.protocol 'kitti-garg'; did you mean 'kitti-eigen-garg'"):
        EvalConfig(protocol="kitti-garg")
