"""Drawn boxes stand where they should, and nowhere else."""

import io

import pytest
import torch
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor

import detection.pictures
from detection.data.coco import read_coco
from detection.data.dataset import DetectionDataset
from detection.pictures import GAP, colors, draw_detections, example_pictures, png, side_by_side


def read_png(content):
    return pil_to_tensor(Image.open(io.BytesIO(content)))


def black(height, width):
    return torch.zeros(3, height, width, dtype=torch.uint8)


def frame(height, width, box, *, line=2):
    """Mask of a box's border, drawn inwards; its last row and column belong to it."""
    x1, y1, x2, y2 = box
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[y1 : y2 + 1, x1 : x2 + 1] = True
    mask[y1 + line : y2 + 1 - line, x1 + line : x2 + 1 - line] = False
    return mask


def test_a_box_changes_its_border_and_no_other_pixel():
    image = black(320, 400)
    drawn = draw_detections(image, torch.tensor([[50.0, 60.0, 200.0, 180.0]]), [1], [""])
    border = frame(320, 400, (50, 60, 200, 180))
    assert drawn.shape == image.shape and drawn.dtype == torch.uint8
    assert torch.equal(drawn.any(dim=0), border)
    assert [tuple(color) for color in drawn[:, border].T.unique(dim=0).tolist()] == [colors(1)[1]]
    assert not image.any()


@pytest.mark.parametrize(("height", "width", "zoom"), [(40, 60, 8), (120, 100, 3), (320, 400, 1), (700, 640, 1)])
def test_small_images_are_enlarged_with_their_boxes(height, width, zoom):
    drawn = draw_detections(black(height, width), torch.tensor([[5.0, 10.0, 25.0, 35.0]]), [1], [""])
    assert drawn.shape == (3, zoom * height, zoom * width)
    box = (5 * zoom, 10 * zoom, 25 * zoom, 35 * zoom)
    assert torch.equal(drawn.any(dim=0), frame(zoom * height, zoom * width, box))


def test_without_boxes_the_pixels_are_kept_and_only_enlarged():
    image = torch.randint(0, 256, (3, 100, 120), dtype=torch.uint8)
    for scores in (None, []):
        drawn = draw_detections(image, torch.zeros(0, 4), [], ["cat"], scores)
        assert torch.equal(drawn, image.repeat_interleave(3, dim=1).repeat_interleave(3, dim=2))


def test_labels_have_colors_of_their_own_and_label_0_too():
    drawn = draw_detections(
        black(320, 320), torch.tensor([[10.0 + 70 * i, 10, 60 + 70 * i, 60] for i in range(4)]), [0, 1, 2, 3], [""] * 3
    )
    found = [tuple(drawn[:, 60, 30 + 70 * i].tolist()) for i in range(4)]
    assert found == colors(3) and len(set(found)) == 4


def test_boxes_carry_class_names_and_scores(monkeypatch):
    texts = []
    original = detection.pictures.draw_bounding_boxes

    def record(image, boxes, labels, **kwargs):
        texts.append(labels)
        return original(image, boxes, labels, **kwargs)

    monkeypatch.setattr(detection.pictures, "draw_bounding_boxes", record)
    boxes = torch.tensor([[50.0, 60.0, 200.0, 180.0], [10.0, 10.0, 100.0, 100.0]])
    plain = draw_detections(black(320, 400), boxes, [2, 0], ["dog", "cat"])
    scored = draw_detections(black(320, 400), boxes, [2, 0], ["dog", "cat"], [0.876, 0.1])
    assert texts == [["cat", "ignored"], ["cat 0.88", "ignored 0.10"]]
    written = plain.any(dim=0) & ~frame(320, 400, (50, 60, 200, 180)) & ~frame(320, 400, (10, 10, 100, 100))
    assert written[60:80, 50:90].any() and not torch.equal(plain, scored)


def test_each_box_needs_a_score():
    with pytest.raises(ValueError, match="shorter"):
        draw_detections(black(320, 320), torch.tensor([[5.0, 5, 9, 9], [5, 5, 9, 9]]), [1, 1], ["cat"], [0.5])


def test_two_pictures_stand_side_by_side_with_a_white_gap():
    left, right = torch.full((3, 20, 30), 7, dtype=torch.uint8), torch.full((3, 20, 50), 9, dtype=torch.uint8)
    joined = side_by_side(left, right)
    assert joined.shape == (3, 20, 30 + GAP + 50) and joined.dtype == torch.uint8
    assert torch.equal(joined[..., :30], left) and torch.equal(joined[..., -50:], right)
    assert (joined[..., 30:-50] == 255).all()


def test_a_picture_survives_its_png():
    image = torch.randint(0, 256, (3, 20, 30), dtype=torch.uint8)
    assert torch.equal(read_png(png(image)), image)


def test_example_pictures_show_the_truth_and_the_detections_from_the_threshold_on(write_coco, coco_content):
    dataset = DetectionDataset(read_coco(*write_coco(coco_content)), keep_crowds=True)
    results = [
        {"image_id": 5, "category_id": 90, "bbox": [10, 5, 20, 15], "score": 0.5},
        {"image_id": 5, "category_id": 90, "bbox": [1, 1, 5, 5], "score": 0.49},
        {"image_id": 9, "category_id": 17, "bbox": [2, 2, 20, 20], "score": 0.3},
    ]
    first, second, third = example_pictures(dataset, results, threshold=0.5, count=6)
    assert [picture.name for picture in (first, second, third)] == ["example-00000", "example-00001", "example-00002"]
    assert "5.png" in first.caption and "0.50" in first.caption
    halves = []
    for index, picture in enumerate((first, second, third)):
        pixels = read_png(picture.png)
        width = (pixels.shape[2] - GAP) // 2
        blank = draw_detections(dataset[index][0], torch.zeros(0, 4), [], [])
        halves.append([(half != blank).any(dim=0) for half in (pixels[..., :width], pixels[..., -width:])])
    assert [[bool(half.any()) for half in pair] for pair in halves] == [[True, True], [False, False], [True, False]]
    zoom, rows_and_columns = 11, halves[0][1].nonzero()
    assert rows_and_columns.min(dim=0).values.tolist() == [5 * zoom, 10 * zoom]
    assert rows_and_columns[:, 0].max() == 20 * zoom  # y = 5 + 15; the 0.49 box is not there


def test_example_pictures_are_spread_over_the_set(write_coco, coco_content):
    dataset = DetectionDataset(read_coco(*write_coco(coco_content)), keep_crowds=True)
    names = [picture.name for picture in example_pictures(dataset, [], threshold=0.5, count=2)]
    assert names == ["example-00000", "example-00002"]
