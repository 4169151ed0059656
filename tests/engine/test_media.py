"""Images, folders and videos are read as frames and written back; what can't be read is named."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from engine.images import frame_writer
from engine.images.frame_writer import FrameWriter, to_array
from engine.images.media import Frame, find_inputs, read_frames, told
from odebackbones.errors import InputError

HEIGHT, WIDTH = 48, 64


def noise(height=HEIGHT, width=WIDTH):
    """It does not compress: cutting the file in half cuts off pixels."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write_image(path, pixels=None):
    assert cv2.imwrite(str(path), noise() if pixels is None else pixels)
    return path


def to_dict(value):
    return torch.full((3, HEIGHT, WIDTH), value, dtype=torch.uint8)


def write_video(path, *, frames=6, fps=12.5):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (WIDTH, HEIGHT))
    for i in range(frames):
        writer.write(to_array(to_dict(30 * i)))
    writer.release()
    return path


def test_an_image_is_one_frame_in_rgb(tmp_path):
    path = write_image(tmp_path / "flag.png", np.full((2, 3, 3), (1, 2, 3), np.uint8))  # OpenCV writes BGR
    [frame] = read_frames(path)
    assert (frame.name, frame.video_fps) == ("flag.png", None)
    assert frame.image.dtype == torch.uint8
    assert torch.equal(frame.image, torch.tensor([3, 2, 1], dtype=torch.uint8)[:, None, None].expand(3, 2, 3))


def test_images_of_one_channel_become_rgb_and_what_is_transparent_white(tmp_path):
    [frame] = read_frames(write_image(tmp_path / "gray.png", np.full((4, 5), 7, np.uint8)))
    assert torch.equal(frame.image, torch.full((3, 4, 5), 7, dtype=torch.uint8))
    for alpha, value in ((255, 7), (0, 255)):
        pixels = np.full((4, 5, 4), 7, np.uint8)
        pixels[..., 3] = alpha
        [frame] = read_frames(write_image(tmp_path / "rgba.png", pixels))
        assert torch.equal(frame.image, torch.full((3, 4, 5), value, dtype=torch.uint8))


def test_a_folder_gives_its_images_in_the_order_of_their_names_and_counts_the_rest(tmp_path):
    for name in ("b.png", "c.JPG", "a.bmp", "a10.png", "a2.webp", "d.jfif.jpg", "e.gif"):
        if name.endswith(".gif"):
            Image.new("RGB", (4, 5)).save(tmp_path / name)
        else:
            write_image(tmp_path / name)
    for name in ("notes.txt", "more.txt", "LICENSE", "._a.bmp", ".DS_Store", "clip.mp4"):
        (tmp_path / name).write_text("no image")
    (tmp_path / "sub").mkdir()
    found = find_inputs([tmp_path])
    names = ["a.bmp", "a10.png", "a2.webp", "b.png", "c.JPG", "d.jfif.jpg", "e.gif"]
    assert [file.name for file in found.files] == names
    assert told(found.passed_over) == (
        "2 hidden files, 1 files ending in nothing, 1 videos, 2 files ending in .txt, "
        "1 subfolders (give them to --input, too)"
    )


def test_several_inputs_are_taken_in_their_order(tmp_path):
    (tmp_path / "folder").mkdir()
    files = [write_image(tmp_path / "folder/z.png"), write_image(tmp_path / "a.png"), tmp_path / "v.mp4"]
    write_video(files[2])
    assert find_inputs([tmp_path / "folder", *files[1:]]).files == files


def test_a_video_gives_all_its_frames_numbered_with_its_rate(tmp_path):
    frames = list(read_frames(write_video(tmp_path / "drive.mp4")))
    assert [frame.name for frame in frames] == [f"drive_{i:06d}.jpg" for i in range(6)]
    assert {frame.video_fps for frame in frames} == {12.5}
    assert {tuple(frame.image.shape) for frame in frames} == {(3, HEIGHT, WIDTH)}
    means = [frame.image.float().mean().item() for frame in frames]
    assert means == pytest.approx([30 * i for i in range(6)], abs=5)


def test_frames_of_a_video_are_written_as_one_video_that_reads_back(tmp_path):
    with FrameWriter(tmp_path, video_name="out") as writer:
        for i in range(5):
            writer.write(Frame(f"in_{i:06d}.jpg", to_dict(0), video_fps=10.0), to_dict(40 * i))
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
    frames = list(read_frames(tmp_path / "out.mp4"))
    assert {frame.video_fps for frame in frames} == {10.0}
    means = [frame.image.float().mean().item() for frame in frames]
    assert means == pytest.approx([40 * i for i in range(5)], abs=5)


def test_a_video_is_in_a_codec_that_browsers_play(tmp_path):
    with FrameWriter(tmp_path, video_name="out") as writer:
        writer.write(Frame("in_000000.jpg", to_dict(0), video_fps=10.0), to_dict(9))
    content = (tmp_path / "out.mp4").read_bytes()
    assert b"vp09" in content or b"avc1" in content


def test_where_there_is_no_such_codec_that_is_said(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(frame_writer, "CODECS", {"mp4v": "MPEG-4"})
    with FrameWriter(tmp_path, video_name="out") as writer:
        writer.write(Frame("in_000000.jpg", to_dict(0), video_fps=10.0), to_dict(9))
    assert "out.mp4: in MPEG-4, which browsers don't play; this OpenCV has no other codec" in caplog.text


def test_a_picture_of_a_kind_that_opencv_does_not_write_is_a_jpeg_file_of_its_name(tmp_path):
    with FrameWriter(tmp_path, video_name="unused") as writer:
        writer.write(Frame("a.gif", to_dict(0)), to_dict(9))
        writer.write(Frame("a.jfif", to_dict(0)), to_dict(9))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gif.jpg", "a.jfif.jpg"]


def test_stills_are_written_under_their_names_and_two_of_one_stem_stay_two(tmp_path):
    picture = torch.from_numpy(noise()).permute(2, 0, 1)
    with FrameWriter(tmp_path, video_name="unused") as writer:
        writer.write(Frame("a.bmp", to_dict(0)), picture)
        writer.write(Frame("a.png", to_dict(0)), to_dict(9))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bmp", "a.png"]
    first, second = (next(read_frames(file)) for file in find_inputs([tmp_path]).files)
    assert torch.equal(first.image, picture) and torch.equal(second.image, to_dict(9))


def test_a_video_takes_odd_sides_whole_and_refuses_frames_of_another_size(tmp_path):
    odd = torch.full((3, 47, 63), 120, dtype=torch.uint8)
    frame = Frame("in_000000.jpg", odd, video_fps=10.0)
    with FrameWriter(tmp_path, video_name="out") as writer:
        writer.write(frame, odd)
        with pytest.raises(InputError, match="in a video of"):
            writer.write(frame, torch.zeros(3, 32, 32, dtype=torch.uint8))
    [read] = read_frames(tmp_path / "out.mp4")
    assert read.image.shape == (3, 48, 64)
    assert read.image.float().mean().item() == pytest.approx(120, abs=5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.png", "no such file or folder"),
        ("missing", "no such file or folder"),
        ("notes.txt", r"neither an image nor a video by its ending \(known: .*.avi, "),
        ("empty", r"no images in this folder \(looked for .jpg, .*; found 1 files ending in .txt\)"),
        ("text.jpg", "damaged"),
        ("void.png", "damaged"),
        ("text.mp4", "no frame could be read"),
    ],
)
def test_what_cannot_be_read_is_named_with_what_to_do(tmp_path, name, message):
    (tmp_path / "empty").mkdir()
    for file in ("notes.txt", "text.jpg", "text.mp4"):
        (tmp_path / file).write_text("no picture")
    (tmp_path / "void.png").touch()
    (tmp_path / "empty" / "readme.txt").touch()
    with pytest.raises(InputError, match=message) as error:
        for file in find_inputs([tmp_path / name]).files:
            list(read_frames(file))
    assert str(error.value).startswith(f"{tmp_path / name}: ")


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp", ".tif", ".mp4", ".jpg"])
def test_files_that_end_early_are_named(tmp_path, suffix):
    path = tmp_path / f"cut{suffix}"
    (write_video if suffix == ".mp4" else write_image)(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError) as error:
        list(read_frames(path))
    assert str(error.value).startswith(f"{path}: ")


def test_a_video_goes_on_after_frames_that_cannot_be_read_and_tells_how_many(tmp_path, monkeypatch, caplog):
    path, capture = write_video(tmp_path / "drive.mp4"), cv2.VideoCapture

    class Faulty:
        """The third frame can't be read, and the header promises two more than there are."""

        def __init__(self, name):
            self.video, self.number = capture(name), 0

        def get(self, key):
            return 8.0 if key == cv2.CAP_PROP_FRAME_COUNT else self.video.get(key)

        def read(self):
            self.number += 1
            there, image = self.video.read()
            return (False, None) if self.number == 3 else (there, image)

        def release(self):
            self.video.release()

    monkeypatch.setattr(cv2, "VideoCapture", Faulty)
    frames = list(read_frames(path))
    assert [frame.name for frame in frames] == [f"drive_{i:06d}.jpg" for i in (0, 1, 3, 4, 5)]
    assert "drive.mp4: 5 of the 8 frames that its header promises could be read" in caplog.text


@pytest.mark.parametrize(("fps", "file"), [(None, "a.jpg"), (25.0, "out.mp4")], ids=["still", "video"])
@pytest.mark.parametrize("place", ["missing", "file"])
def test_a_place_that_cannot_be_written_is_named(tmp_path, place, fps, file):
    (tmp_path / "file").touch()
    folder = Path(tmp_path, place)
    with (
        pytest.raises(InputError, match="choose another --out") as error,
        FrameWriter(folder, video_name="out") as writer,
    ):
        writer.write(Frame("a.jpg", to_dict(0), video_fps=fps), to_dict(0))
    assert str(error.value).startswith(f"{folder / file}: ")
