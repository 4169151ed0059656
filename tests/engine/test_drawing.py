import io

import numpy as np
import torch
from PIL import Image

from engine.images import drawing
from engine.images.drawing import (
    GREATEST_SIDE,
    LEAST_SIDE,
    add_captions,
    enlarge,
    font_file,
    legible,
    letters_of,
    png,
)


def test_a_png_holds_the_pixels():
    image = torch.randint(0, 256, (3, 5, 7), dtype=torch.uint8)
    decoded = np.asarray(Image.open(io.BytesIO(png(image))))
    assert np.array_equal(decoded, image.permute(1, 2, 0).numpy())


def test_small_images_are_enlarged_pixel_by_pixel():
    image = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    assert enlarge(image).shape == (3, LEAST_SIDE, LEAST_SIDE)
    assert torch.equal(enlarge(image)[:, ::10, ::10], image)


def test_each_line_of_a_caption_stands_below_the_image():
    black = torch.zeros(3, LEAST_SIDE, LEAST_SIDE, dtype=torch.uint8)
    one, two = add_captions(black, ["red 0.9"]), add_captions(black, ["red 0.9", "blue 0.1"])
    assert torch.equal(one[:, :LEAST_SIDE], black)
    below = one[:, LEAST_SIDE:]
    assert below.max() == 255 and below.min() < 100
    assert two.shape[1] > one.shape[1] > LEAST_SIDE


def test_large_images_are_reduced():
    assert max(add_captions(torch.zeros(3, 2000, 1000, dtype=torch.uint8), []).shape) <= GREATEST_SIDE + 10


def test_letters_that_the_own_font_lacks_are_drawn_in_one_of_the_systems_or_by_a_fallback(monkeypatch):
    own = font_file()
    assert "DejaVu" in own and font_file("Löwe é") == own and legible("Löwe é", "class 1") == "Löwe é"
    assert "猫" not in letters_of(own)
    monkeypatch.setattr(drawing, "system_font", lambda letters: None)
    assert font_file("猫") == own and legible("猫", "class 1") == "class 1"
    monkeypatch.setattr(drawing, "system_font", lambda letters: "cjk.ttf" if "猫" in letters else None)
    monkeypatch.setattr(drawing, "letters_of", lambda file: frozenset("猫") if file == "cjk.ttf" else frozenset())
    assert font_file("猫") == "cjk.ttf" and legible("猫", "class 1") == "猫"
