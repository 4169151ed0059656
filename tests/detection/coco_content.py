"""Content of COCO files for the tests of data of other tools."""

from detection_files import HEIGHT, WIDTH

from detection.data.assemble import ReadOptions

STRICT = ReadOptions(strict=True)
CATEGORIES = [{"id": 1, "name": "cat"}]


def content(annotations=(), categories=CATEGORIES, images=("1.png", "2.png", "3.png"), **image):
    size = {"width": WIDTH, "height": HEIGHT}
    return {
        "images": [{"id": i, "file_name": name, **size, **image} for i, name in enumerate(images, start=1)],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [4, 5, 20, 10], **a} for a in annotations],
        "categories": list(categories),
    }


CORNERS = [{"bbox": [20 + i, 16, 36, 28]} for i in range(5)]
