import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from depth.data.depth_files import read_depth
from depth.data.generated import check_parameters, generate_scenes
from depth.data.units import units_per_meter
from depth.scenes.presets import PRESETS, develop, draw_image
from odebackbones.errors import InputError

SIZE = (32, 64)
GOOD: dict[str, Any] = {"preset": "road", "images": 2, "size": SIZE, "seed": 0}


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@cache
def _depths(preset: str) -> np.ndarray:
    """The depth of 60 scenes, (60, H, W) [m]."""
    rngs = (np.random.default_rng([0, i]) for i in range(1, 61))
    return np.stack([draw_image(rng, preset=preset, size=SIZE)[1] for rng in rngs])


def _delta1(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Mean over the images of the share of valid pixels where the larger is less than 1.25 times the smaller."""
    valid = truth > 0
    predicted = np.broadcast_to(predicted, truth.shape)
    ratio = np.where(valid, predicted, 1) / np.where(valid, truth, 1)
    close = (np.maximum(ratio, 1 / ratio) < 1.25) & valid
    return float((close.sum((1, 2)) / valid.sum((1, 2))).mean())


@pytest.fixture(scope="module", params=list(PRESETS))
def preset(request) -> str:
    return request.param


def test_same_seed_gives_same_bytes_and_another_seed_other_images(tmp_path, preset):
    first, again, other = (
        _files(generate_scenes(tmp_path / name, preset=preset, images=2, size=SIZE, seed=seed))
        for name, seed in (("first", 0), ("again", 0), ("other", 1))
    )
    names = [f"{folder}/00000{i}.png" for folder in ("depth", "rgb") for i in (1, 2)]
    assert list(first) == [*names, "scenes.json"]
    assert first == again
    assert all(first[name] != other[name] for name in first)


def test_a_larger_set_starts_with_the_smaller_one(tmp_path, preset):
    small, large = (generate_scenes(tmp_path / str(n), preset=preset, images=n, size=SIZE, seed=0) for n in (2, 3))
    assert all(_files(large)[name] == content for name, content in _files(small).items() if name.endswith(".png"))
    entries = [json.loads((folder / "scenes.json").read_text())["images"] for folder in (small, large)]
    assert entries[0] == entries[1][:2]


def test_files_hold_what_was_rendered(tmp_path, preset):
    folder = generate_scenes(tmp_path / "set", preset=preset, images=2, size=SIZE, seed=3)
    unit = PRESETS[preset].unit
    index = json.loads((folder / "scenes.json").read_text())
    expected = {"generator": "scenes", "version": 1, "preset": preset, "images": 2, "size": [32, 64], "seed": 3}
    assert index["info"] == expected | {"unit": unit}
    for number, entry in enumerate(index["images"], start=1):
        image, depth, camera = draw_image(np.random.default_rng([3, number]), preset=preset, size=SIZE)
        assert entry["file_name"] == f"00000{number}.png"
        assert [entry[name] for name in ("fx", "fy", "cx", "cy")] == [camera.fx, camera.fy, camera.cx, camera.cy]
        assert np.array_equal(np.asarray(Image.open(folder / "rgb" / entry["file_name"])), image)
        stored = read_depth(folder / "depth" / entry["file_name"], unit=unit)
        assert np.array_equal(stored > 0, depth > 0)
        assert np.abs(stored - depth).max() <= 0.5 / units_per_meter(unit) + 1e-5


@pytest.mark.slow
def test_a_road_has_sky_without_depth_and_nothing_beyond_80_m():
    depth = _depths("road")
    assert depth.max() <= 80
    assert depth[depth > 0].min() > 1.5
    assert 0.6 < (depth > 0).mean() < 0.95
    assert (depth[:, -1] > 0).all()


def test_a_room_has_depth_everywhere_and_none_beyond_10_m():
    depth = _depths("room")
    assert (depth > 0.1).all()
    assert depth.max() < 10
    assert depth.max() > 5


@pytest.mark.parametrize(("name", "constant_below", "median_below"), [("road", 0.4, 0.5), ("room", 0.5, 0.55)])
def test_neither_a_constant_nor_the_median_of_each_pixel_predicts_depth(name, constant_below, median_below):
    depth = _depths(name)
    valid = np.where(depth > 0, depth, np.nan)
    sky = np.isnan(valid).all(0)
    median = np.where(sky, 1, np.nanmedian(np.where(sky, 1, valid), axis=0))
    constants = np.geomspace(0.5, PRESETS[name].max_depth_m, 40)
    assert max(_delta1(constant, depth) for constant in constants) < constant_below
    assert _delta1(median, depth) < median_below


def test_a_set_of_the_same_parameters_is_reused_and_anything_else_left_alone(tmp_path):
    folder = generate_scenes(tmp_path / "deep" / "set", **GOOD)
    before = (folder / "rgb/000001.png").stat()
    assert generate_scenes(folder, **GOOD) == folder
    after = (folder / "rgb/000001.png").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    with pytest.raises(InputError, match=r"holds something else than the scenes .* another --data.root"):
        generate_scenes(folder, **dict(GOOD, preset="room"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other/mine.txt").write_text("mine")
    with pytest.raises(InputError, match="holds something else"):
        generate_scenes(tmp_path / "other", **GOOD)
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (KeyboardInterrupt(), pytest.raises(KeyboardInterrupt)),
        (OSError(28, "disk full"), pytest.raises(InputError, match=r"cannot be written \(disk full\); free some")),
    ],
    ids=["stopped", "disk full"],
)
def test_an_interrupted_generation_leaves_nothing(tmp_path, monkeypatch, error, seen):
    written = []

    def fails_at_the_third(file: Path, content: bytes) -> int:
        written.append(file)
        if len(written) == 3:
            raise error
        return len(content)

    monkeypatch.setattr(Path, "write_bytes", fails_at_the_third)
    with seen:
        generate_scenes(tmp_path / "set", **GOOD)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"preset": "rood"}, "preset of --data.scenes 'rood'; did you mean"),
        ({"images": 0}, "images must be at least 1, got 0; set --data.scenes"),
        ({"size": (31, 64)}, "height must be at least 32, got 31; set --data.scenes"),
        ({"size": (32, 8)}, "width must be at least 32, got 8; set --data.scenes"),
        ({"size": (32, 64, 3)}, "size must be height and width"),
        ({"seed": -1}, "seed must be at least 0, got -1; set --data.scenes"),
    ],
)
def test_parameters_that_give_no_set_are_refused_by_name(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        check_parameters(**(GOOD | change))
    with pytest.raises(InputError, match=message):
        generate_scenes(tmp_path / "set", **(GOOD | change))
    assert list(tmp_path.iterdir()) == []


def test_development_keeps_the_order_of_brightness_and_varies():
    ramp = np.broadcast_to(np.linspace(0.05, 0.7, 8, dtype=np.float32)[:, None], (3, 40, 8, 1)).reshape(3, 40, 8)
    images = [develop(ramp, np.random.default_rng(i)) for i in range(4)]
    assert all(image.shape == (40, 8, 3) and image.dtype == np.uint8 for image in images)
    assert all((np.diff(image.mean((0, 2))) > 0).all() for image in images)
    assert np.ptp([image.mean() for image in images]) > 5


def test_the_presets_have_kittis_and_nyus_largest_depth_and_unit():
    assert {name: (kind.max_depth_m, kind.unit) for name, kind in PRESETS.items()} == {
        "road": (80, "m/256"),
        "room": (10, "mm"),
    }
