import pytest
import torch

from depth.losses import LOSSES, LossConfig, berhu, gradient_matching, silog, smoothness, weighted_losses
from odebackbones import InputError


def maps(*rows):
    """A batch of one map."""
    return torch.tensor(rows, dtype=torch.float32)[None, None]


IMAGE = torch.zeros(1, 3, 2, 2)
TRUTH = maps([1.0, 2.0], [4.0, 0.0])


def drawn(seed=0, size=16):
    draw = torch.Generator().manual_seed(seed)
    truth = 1 + 9 * torch.rand(2, 1, size, size, generator=draw)
    truth[torch.rand(2, 1, size, size, generator=draw) < 0.3] = 0
    return 1 + 9 * torch.rand(2, 1, size, size, generator=draw), truth, torch.rand(2, 3, size, size, generator=draw)


def test_silog_is_its_formula_over_the_measured_pixels():
    p, g, image = drawn()
    d = (p.log() - g.log())[g > 0].double()
    expected = 10 * ((d**2).mean() - 0.85 * d.mean() ** 2).sqrt()
    assert silog(p, g, image) == pytest.approx(float(expected), rel=1e-4)


def test_silog_weighs_a_common_factor_by_what_lambda_leaves():
    p = 2 * TRUTH + (TRUTH == 0)
    assert silog(p, TRUTH, IMAGE) == pytest.approx(10 * (0.15**0.5) * torch.log(torch.tensor(2.0)).item(), rel=1e-4)


def test_berhu_is_linear_near_0_and_a_parabola_that_meets_it_at_a_fifth_of_the_largest():
    found = berhu(TRUTH + maps([0.5, 1.0], [10.0, 3.0]), TRUTH, IMAGE)  # c = 2
    assert found == pytest.approx((0.5 + 1.0 + (100 + 4) / 4) / 3)


def test_gradient_matching_does_not_see_a_scale_and_sees_an_edge():
    _, g, image = drawn()
    scaled = torch.where(g > 0, 3 * g, 1.0)
    assert gradient_matching(scaled, g, image) == pytest.approx(0, abs=1e-6)
    edge = maps([1.0, 2.0], [1.0, 2.0])  # the logarithm rises by ln 2 to the right, in a truth that is flat
    expected = torch.log(torch.tensor(2.0)) / 4  # at the first of four scales; at the others there is one pixel
    assert gradient_matching(edge, torch.ones_like(edge), IMAGE) == pytest.approx(float(expected))


def test_gradient_matching_takes_no_difference_to_a_hole():
    p, g, image = drawn()
    other = torch.where(g > 0, p, 10 * p)
    assert torch.equal(gradient_matching(p, g, image), gradient_matching(other, g, image))


def test_smoothness_forgives_an_edge_where_the_image_has_one():
    p = maps([1.0, 2.0], [1.0, 2.0])
    plain, edged = torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    edged[..., 1] = 1
    without = smoothness(p, p, plain)
    assert without == pytest.approx(0.5 / 0.75)  # disparities 1 and 1/2, mean 3/4
    assert smoothness(p, p, edged) == pytest.approx(float(without) * torch.tensor(-1.0).exp().item())
    assert smoothness(5 * p, p, plain) == pytest.approx(float(without))


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_finite_with_its_gradient_at_a_perfect_prediction_and_falls_toward_it(name):
    p, g, image = drawn()
    best = torch.where(g > 0, g, 5.0).requires_grad_()
    loss = LOSSES[name](best, g, image)
    loss.backward()
    assert torch.isfinite(best.grad).all()
    if name != "smoothness":  # which has no truth
        nearer = LOSSES[name]((best + 0.1 * (p - best)).detach(), g, image)
        assert loss < nearer < LOSSES[name](p, g, image)


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "smoothness"])
def test_pixels_that_were_not_measured_do_not_count(name):
    p, g, image = drawn()
    other = torch.where(g > 0, p, 79.0).requires_grad_()
    loss = LOSSES[name](other, g, image)
    assert torch.equal(loss.detach(), LOSSES[name](p, g, image))
    loss.backward()
    assert not other.grad[g == 0].any()


def test_a_batch_without_a_measured_pixel_trains_nothing():
    p = torch.full((1, 1, 4, 4), 5.0, requires_grad=True)
    losses = weighted_losses(LossConfig(berhu=1.0, smoothness=0.1), p, torch.zeros(1, 1, 4, 4), torch.rand(1, 3, 4, 4))
    torch.stack(list(losses.values())).sum().backward()
    assert losses.keys() == {"loss_silog", "loss_berhu", "loss_smoothness"}
    assert not p.grad.any()


def test_losses_are_weighted_and_in_float32_under_autocast():
    p, g, image = drawn()
    with torch.autocast("cpu", torch.bfloat16):
        losses = weighted_losses(LossConfig(silog=0.0, l1=2.0, berhu=0.5), p.bfloat16(), g, image)
    assert losses.keys() == {"loss_berhu", "loss_l1"}
    assert losses["loss_l1"].dtype == torch.float32
    assert losses["loss_l1"] == pytest.approx(2 * float((p.bfloat16().float() - g)[g > 0].abs().mean()))


def test_weights_that_train_nothing_are_refused():
    with pytest.raises(InputError, match=r"loss.l1=-1: expected a weight of at least 0"):
        LossConfig(l1=-1)
    with pytest.raises(InputError, match="loss: all weights are 0"):
        LossConfig(silog=0)
