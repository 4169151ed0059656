"""Fixtures for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Results are compared bit for bit; and on a busy machine, small operations on many threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real sample data; the test is skipped without it."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("ODEBACKBONES_SHARED_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set ODEBACKBONES_SHARED_DATA to its folder")
    return folder


COLORS = {"blue": (40, 40, 200), "green": (40, 200, 40), "red": (200, 40, 40)}


@pytest.fixture(scope="session")
def colors(tmp_path_factory) -> Path:
    """A folder with ``train`` and ``val``: 8 and 4 images of 32 px for each of three classes, told apart by color."""
    root = tmp_path_factory.mktemp("colors")
    draw = np.random.default_rng(0)
    for split, images in (("train", 8), ("val", 4)):
        for name, color in COLORS.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(images):
                pixels = np.clip(np.array(color) + draw.integers(-30, 30, (32, 32, 3)), 0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    return root
