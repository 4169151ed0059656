import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from detection.data.assemble import ReadOptions
from detection.data.coco import read_coco
from detection.data.draw import MIN_VISIBLE, OUTLINES, DrawnObject, draw_background, draw_mask, draw_scene, paint
from detection.data.shapes import generate_shapes
from odebackbones.errors import InputError

SIZE = 96


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _annotations(folder: Path) -> dict:
    return json.loads((folder / "annotations.json").read_text())


def test_same_seed_gives_same_bytes_and_another_seed_other_images(tmp_path):
    first, again, other = (
        _files(generate_shapes(tmp_path / name, images=5, size=SIZE, seed=seed))
        for name, seed in (("first", 0), ("again", 0), ("other", 1))
    )
    assert sorted(first) == ["annotations.json", *(f"images/00000{i}.png" for i in range(1, 6))]
    assert first == again
    assert all(first[name] != other[name] for name in first)


def test_a_larger_set_starts_with_the_smaller_one(tmp_path):
    small, large = (_files(generate_shapes(tmp_path / str(n), images=n, size=SIZE, seed=0)) for n in (3, 5))
    assert all(large[name] == small[name] for name in small if name.endswith(".png"))


def test_annotations_load_in_pycocotools_and_agree_with_the_scenes(tmp_path):
    folder = generate_shapes(tmp_path / "set", images=20, size=SIZE, seed=3)
    coco = COCO(folder / "annotations.json")
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == list(OUTLINES)
    for image_id in coco.getImgIds():
        image, objects = draw_scene(np.random.default_rng([3, image_id]), SIZE)
        assert np.array_equal(np.asarray(Image.open(folder / f"images/{image_id:06d}.png")), image)
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=[image_id]))
        assert len(annotations) == len(objects)
        for annotation, drawn in zip(annotations, objects, strict=True):
            rows, columns = np.nonzero(drawn.mask)
            extent = [np.ptp(columns) + 1, np.ptp(rows) + 1]
            assert annotation["bbox"] == [columns.min(), rows.min(), *extent]
            assert annotation["area"] == len(rows)
            assert list(OUTLINES)[annotation["category_id"] - 1] == drawn.name


def test_a_strict_reading_of_the_set_finds_no_problem(tmp_path):
    folder = generate_shapes(tmp_path / "set", images=20, size=SIZE, seed=0)
    annotations = read_coco(folder / "annotations.json", folder / "images", ReadOptions(strict=True))
    assert annotations.classes == tuple(OUTLINES)
    assert len(annotations.images) == 20


@pytest.mark.slow
def test_scenes_vary_and_no_object_is_covered_too_much():
    scenes = [draw_scene(np.random.default_rng([0, i]), SIZE)[1] for i in range(200)]
    assert {len(objects) for objects in scenes} == set(range(7))
    assert 1 <= sum(not objects for objects in scenes) <= 15
    assert {drawn.name for objects in scenes for drawn in objects} == set(OUTLINES)
    covered = 0
    for objects in scenes:
        for i, drawn in enumerate(objects):
            above = np.any([other.mask for other in objects[i + 1 :]], axis=0) if objects[i + 1 :] else 0
            visible = (drawn.mask * (1 - np.asarray(above, int))).sum() / drawn.mask.sum()
            assert visible >= MIN_VISIBLE
            covered += visible < 1
    assert covered > 20


@pytest.mark.parametrize("name", OUTLINES)
def test_masks_lie_inside_the_image_with_their_shapes_own_area(name):
    share_of_disc = {"circle": 1, "cross": 0.51, "ring": 0.7, "square": 2 / np.pi, "star": 0.37, "triangle": 0.41}
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = draw_mask(name, rng, 320)
        assert set(np.unique(mask)) == {0, 1}
        rows, columns = np.nonzero(mask)
        radius = np.hypot(rows - rows.mean(), columns - columns.mean()).max()
        assert len(rows) / (np.pi * radius**2) == pytest.approx(share_of_disc[name], rel=0.2)


def test_paint_changes_the_masks_pixels_only():
    rng = np.random.default_rng(0)
    image = draw_background(rng, SIZE)
    for name in OUTLINES:
        drawn = DrawnObject(name, draw_mask(name, rng, SIZE))
        mask = drawn.mask > 0
        changed = np.any(paint(image, drawn, rng) != image, axis=-1)
        assert not changed[~mask].any()
        assert changed[mask].mean() > 0.99


def test_a_complete_set_of_the_same_parameters_is_reused(tmp_path):
    folder = generate_shapes(tmp_path / "deep" / "set", images=2, size=SIZE, seed=0)
    image = folder / "images/000001.png"
    before = image.stat()
    assert generate_shapes(folder, images=2, size=SIZE, seed=0) == folder
    assert (image.stat().st_ino, image.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_folder_of_anything_else_is_left_alone(tmp_path):
    folder = generate_shapes(tmp_path / "set", images=2, size=SIZE, seed=0)
    with pytest.raises(InputError, match="holds something else"):
        generate_shapes(folder, images=3, size=SIZE, seed=0)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/mine.txt").write_text("mine")
    with pytest.raises(InputError, match="holds something else"):
        generate_shapes(tmp_path / "other", images=2, size=SIZE, seed=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "set"]


def test_a_failure_half_way_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("detection.data.shapes.cv2.imwrite", lambda *_: False)
    with pytest.raises(InputError, match="cannot be written"):
        generate_shapes(tmp_path / "set", images=2, size=SIZE, seed=0)
    assert list(tmp_path.iterdir()) == []


def test_another_process_that_was_faster_wins(tmp_path, monkeypatch):
    folder = tmp_path / "set"
    monkeypatch.setattr("detection.data.shapes._holds", lambda *_: False)
    generate_shapes(folder, images=2, size=SIZE, seed=0)
    inode = folder.stat().st_ino
    monkeypatch.undo()
    answers = iter([False, True])
    monkeypatch.setattr("detection.data.shapes._holds", lambda *_: next(answers))
    assert generate_shapes(folder, images=2, size=SIZE, seed=0).stat().st_ino == inode
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize(("name", "value"), [("images", 0), ("size", 63), ("seed", -1)])
def test_parameters_that_give_no_set_are_refused(tmp_path, name, value):
    with pytest.raises(InputError, match=f"{name} must be at least"):
        generate_shapes(tmp_path / "set", **{"images": 2, "size": SIZE, "seed": 0, name: value})
