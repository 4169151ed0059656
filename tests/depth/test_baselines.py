import torch
from PIL import Image

from depth.baselines import Baselines, best_constant, fit_baselines, pixel_medians
from depth.data.dataset import DepthDataset
from depth.data.depth_files import depth_png
from depth.data.records import DepthPair, DepthPairs


def test_the_best_constant_is_within_a_quarter_of_the_most_pixels():
    depths = torch.cat([torch.full((60,), 2.0), torch.full((50,), 3.0), torch.full((100,), 9.0), torch.tensor([80.0])])
    found = best_constant(depths)
    assert max(found / 2, 3 / found) < 1.25, "2 and 3 are both within reach of one constant, and are more than the 9s"
    tried = torch.linspace(1, 80, 4000)
    ratios = torch.maximum(tried[:, None] / depths, depths / tried[:, None])
    best = (ratios < 1.25).sum(1).max()
    assert (torch.maximum(found / depths, depths / found) < 1.25).sum() == best == 110


def test_medians_are_of_the_measured_depths_of_a_pixel():
    maps = torch.tensor([[[1.0, 0.0, 0.0]], [[2.0, 5.0, 0.0]], [[9.0, 0.0, 0.0]]])
    assert pixel_medians(maps, fill=4.0).tolist() == [[2, 5, 4]]


def test_both_are_those_of_the_training_set(tmp_path):
    pairs = []
    for i, (left, right) in enumerate([(10.0, 20.0), (11.0, 30.0), (12.0, 40.0)]):
        depth = torch.full((8, 16), left)
        depth[:, 8:] = right
        (tmp_path / f"{i}.png").write_bytes(depth_png(depth.numpy(), unit="m/256"))
        Image.new("RGB", (16, 8)).save(tmp_path / f"{i}.jpg")
        pairs.append(DepthPair(str(i), tmp_path / f"{i}.jpg", tmp_path / f"{i}.png"))
    found = fit_baselines(DepthDataset(DepthPairs("set", tuple(pairs), "m/256")))
    assert found.constant == best_constant(torch.tensor([10.0, 11, 12, 20, 30, 40]))
    predictions = found.predictions((16, 32))
    assert predictions["per-pixel median"].shape == (16, 32)
    assert predictions["per-pixel median"][:, :14].unique().tolist() == [11]
    assert predictions["per-pixel median"][:, 18:].unique().tolist() == [30]
    assert predictions["best constant"].unique().tolist() == [torch.tensor(found.constant).item()]
    again = Baselines(**found.plain())
    assert torch.equal(again.median, found.median)
