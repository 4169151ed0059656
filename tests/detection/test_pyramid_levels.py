"""The backbone's levels under the pyramid."""

import pytest
import torch
from small_detectors import build

from detection.model import ModelConfig
from odebackbones.errors import InputError


def test_a_pyramid_on_other_strides_leaves_out_what_comes_after_the_last():
    model = build(strides=[4, 8, 16], anchor_sizes=[8, 16, 32, 64], max_size=96).eval()
    levels = model.backbone(torch.rand(1, 3, 64, 96))
    assert [tuple(level.shape[2:]) for level in levels.values()] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    assert not any("layer4" in name for name in model.backbone.body.state_dict())
    assert model.roi_heads.box_roi_pool.featmap_names == ["0", "1", "2"]
    [found] = model([torch.rand(3, 64, 96)])
    assert set(found) == {"boxes", "labels", "scores"}


def test_strides_that_the_backbone_lacks_are_named():
    with pytest.raises(InputError, match=r"has features at strides \[2, 4, 8, 16, 32\] and none at \[64\]"):
        build(strides=[4, 64], anchor_sizes=[8, 16, 32])


@pytest.mark.parametrize(
    ("setting", "error"),
    [
        ({"strides": [16, 8]}, "expected rising strides"),
        ({"strides": [8, 16]}, r"expected 3 sizes \[px\], for strides"),
        ({"anchor_sizes": [0, 16, 32, 64, 128]}, "expected sizes above 0 px"),
    ],
)
def test_wrong_levels_are_refused(setting, error):
    with pytest.raises(InputError, match=error):
        ModelConfig(**setting)
