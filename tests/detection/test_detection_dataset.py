import numpy as np
import pytest
import torch
from detection_files import HEIGHT, WIDTH, truncate, write_image
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import tv_tensors

from detection.data.coco import read_coco
from detection.data.dataset import DetectionDataset, collate
from odebackbones.errors import InputError


@pytest.fixture
def annotations(coco_content, write_coco):
    return read_coco(*write_coco(coco_content))


def test_a_sample_holds_the_pixels_and_the_record(annotations):
    image, target = DetectionDataset(annotations, keep_crowds=True)[0]
    assert isinstance(image, tv_tensors.Image)
    assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(Image.open(annotations.images[0].path)))
    assert isinstance(target["boxes"], tv_tensors.BoundingBoxes)
    assert target["boxes"].format == tv_tensors.BoundingBoxFormat.XYXY
    assert target["boxes"].canvas_size == (HEIGHT, WIDTH)
    assert target["boxes"].tolist() == [[1, 2, 11, 22], [4, 5, 10, 12]]
    assert target["image_id"] == 5
    assert [target[key].tolist() for key in ("labels", "area", "iscrowd")] == [[3, 1], [150.5, 42], [0, 1]]
    dtypes = [target[key].dtype for key in ("boxes", "labels", "area", "iscrowd")]
    assert dtypes == [torch.float32, torch.int64, torch.float32, torch.int64]


def test_training_leaves_crowds_out(annotations):
    _, target = DetectionDataset(annotations, keep_crowds=False)[0]
    assert target["boxes"].tolist() == [[1, 2, 11, 22]]
    assert [target[key].tolist() for key in ("labels", "area", "iscrowd")] == [[3], [150.5], [0]]


@pytest.mark.parametrize("keep_crowds", [False, True])
def test_an_image_without_objects_gives_empty_boxes(annotations, keep_crowds):
    _, target = DetectionDataset(annotations, keep_crowds=keep_crowds)[1]
    assert target["boxes"].shape == (0, 4)
    assert [len(target[key]) for key in ("labels", "area", "iscrowd")] == [0, 0, 0]


def test_transforms_get_image_and_target(annotations):
    dataset = DetectionDataset(annotations, lambda image, target: (image + 1, {"seen": target}), keep_crowds=True)
    image, target = dataset[2]
    plain, expected = DetectionDataset(annotations, keep_crowds=True)[2]
    assert torch.equal(image, plain + 1)
    assert target["seen"]["image_id"] == expected["image_id"] == 9


def test_gray_images_become_rgb_and_exif_rotation_is_not_applied(annotations):
    gray = Image.fromarray(np.arange(WIDTH * HEIGHT, dtype=np.uint32).astype(np.uint8).reshape(HEIGHT, WIDTH))
    exif = Image.Exif()
    exif[0x0112] = 6
    gray.save(annotations.images[0].path, exif=exif)
    image, _ = DetectionDataset(annotations, keep_crowds=True)[0]
    assert image.shape == (3, HEIGHT, WIDTH)
    assert torch.equal(image[0], image[2])
    assert image[0].tolist() == np.asarray(gray).tolist()


def test_a_truncated_image_is_refused_with_file_and_fix(annotations):
    truncate(annotations.images[2].path)
    with pytest.raises(InputError, match=r"9\.png: image cannot be read .* --data.verify true"):
        DetectionDataset(annotations, keep_crowds=True)[2]


def test_a_loader_collates_images_of_all_sizes_in_order(annotations, coco_content, write_coco):
    files = write_coco(coco_content)
    write_image(files[1] / "7.png", width=20, height=10)
    dataset = DetectionDataset(read_coco(*files), keep_crowds=False)
    ((images, targets),) = DataLoader(dataset, batch_size=len(dataset), collate_fn=collate)
    assert [tuple(image.shape) for image in images] == [(3, HEIGHT, WIDTH), (3, 10, 20), (3, HEIGHT, WIDTH)]
    assert [target["image_id"] for target in targets] == [5, 7, 9]
