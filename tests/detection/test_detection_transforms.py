import pytest
import torch
from torchvision import tv_tensors

from detection.data.transforms import AUGMENTATIONS, build_transforms
from odebackbones.errors import InputError

HEIGHT, WIDTH = 60, 80
FIELDS = ("boxes", "labels", "area", "iscrowd")


def _sample(count: int = 12):
    """A noise image and boxes whose labels, areas and iscrowd all hold the box's number."""
    generator = torch.Generator().manual_seed(0)
    image = tv_tensors.Image(torch.randint(0, 256, (3, HEIGHT, WIDTH), dtype=torch.uint8, generator=generator))
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([WIDTH / 2, HEIGHT / 2])
    extent = 3 + torch.rand(count, 2, generator=generator) * torch.tensor([WIDTH / 2 - 3, HEIGHT / 2 - 3])
    boxes = torch.cat([corner, corner + extent], dim=1)
    numbers = torch.arange(count)
    target = {
        "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(HEIGHT, WIDTH)),
        "labels": numbers.clone(),
        "image_id": 42,
        "area": numbers.to(torch.float32),
        "iscrowd": numbers.clone(),
    }
    return image, target


def test_none_only_scales_the_pixels():
    image, target = _sample()
    out, kept = build_transforms("none")(image, target)
    torch.testing.assert_close(out, image.as_subclass(torch.Tensor) / 255)
    assert all(torch.equal(kept[key], target[key].as_subclass(torch.Tensor)) for key in FIELDS)


def test_flip_mirrors_pixels_and_boxes_exactly_about_half_the_time():
    image, target = _sample()
    boxes = target["boxes"].as_subclass(torch.Tensor)
    mirrored = torch.stack([WIDTH - boxes[:, 2], boxes[:, 1], WIDTH - boxes[:, 0], boxes[:, 3]], dim=1)
    pixels = build_transforms("none")(image, target)[0]
    flips, transforms = 0, build_transforms("flip")
    torch.manual_seed(0)
    for _ in range(100):
        out, moved = transforms(image, target)
        flipped = torch.equal(out, pixels.flip(-1))
        assert flipped or torch.equal(out, pixels)
        torch.testing.assert_close(moved["boxes"], mirrored if flipped else boxes, rtol=0, atol=1e-5)
        flips += flipped
    assert 30 < flips < 70


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_transforms_keep_the_fields_of_a_target_aligned(augment):
    transforms = build_transforms(augment)
    torch.manual_seed(0)
    lost = 0
    for _ in range(20):
        out, target = transforms(*_sample())
        height, width = out.shape[-2:]
        assert out.dtype == torch.float32
        assert 0 <= out.min() <= out.max() <= 1
        assert target["image_id"] == 42
        assert target["boxes"].shape == (len(target["labels"]), 4)
        assert target["labels"].dtype == target["iscrowd"].dtype == torch.int64
        assert target["labels"].tolist() == target["area"].tolist() == target["iscrowd"].tolist()
        assert (target["boxes"] >= 0).all()
        assert (target["boxes"] <= torch.tensor([width, height, width, height])).all()
        assert (target["boxes"][:, 2:] > target["boxes"][:, :2]).all()
        lost += 12 - len(target["labels"])
    assert (lost > 0) == (augment in ("ssd", "lsj"))


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_transforms_take_images_without_objects(augment):
    torch.manual_seed(0)
    for _ in range(5):
        _, target = build_transforms(augment)(*_sample(0))
        assert target["boxes"].shape == (0, 4)
        assert len(target["labels"]) == len(target["area"]) == len(target["iscrowd"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("augment", ["ssd", "lsj"])
def test_boxes_follow_their_pixels(augment):
    """The object is the image's only white; what is left of its box must hold what is left of the white."""
    image = torch.zeros(3, 300, 400, dtype=torch.uint8)
    image[:, 100:200, 150:300] = 255
    _, target = _sample(1)
    target["boxes"] = tv_tensors.BoundingBoxes([[150.0, 100, 300, 200]], format="XYXY", canvas_size=(300, 400))
    torch.manual_seed(0)
    seen = 0
    for _ in range(20):
        out, moved = build_transforms(augment)(tv_tensors.Image(image), target)
        rows, columns = torch.nonzero(out.amin(dim=0) > 0.7, as_tuple=True)
        if len(moved["boxes"]) and len(rows):
            tight = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            assert (moved["boxes"][0] - tight).abs().max() < 4
            seen += 1
    assert seen > 10


def test_large_scale_jitter_gives_one_size():
    assert build_transforms("lsj")(*_sample())[0].shape == (3, 1024, 1024)


def test_an_unknown_name_is_refused_with_the_near_ones():
    with pytest.raises(InputError, match="unknown augmentation 'flop'; did you mean 'flip'"):
        build_transforms("flop")
