"""Predict on files: pictures with what was found, and the same as JSON."""

import json
from itertools import chain
from pathlib import Path
from typing import Any

from tqdm import tqdm

from odebackbones.engine.checkpoint import write_atomically
from odebackbones.engine.media import FrameWriter, read_frames
from odebackbones.engine.run import LoadedRun
from odebackbones.errors import InputError

RESULTS = "results.json"


def predict_files(run: LoadedRun, source: Path, out: Path) -> int:
    """Predict on every frame of ``source``.

    Args:
        run: The model.
        source: An image, a folder of images, or a video.
        out: Folder for a picture of every frame (of a video: one video) and ``results.json``.

    Returns:
        The number of frames.

    Raises:
        InputError: Something can't be read or written.
    """
    if out.resolve() == (source if source.is_dir() else source.parent).resolve():
        raise InputError(f"{out}: pictures of {source} would replace it; choose another --out")
    found: list[dict[str, Any]] = []
    written: set[str] = set()
    frames = read_frames(source)
    first = next(frames)  # before anything is written: the source is there and can be read
    out.mkdir(parents=True, exist_ok=True)
    with FrameWriter(out, video_name=source.stem) as writer:
        for frame in tqdm(chain([first], frames), unit="frame", leave=False):
            prediction = run.task.predict(run.model, frame.image, run.device)
            writer.write(frame, prediction.picture)
            files = {f"{Path(frame.name).stem}{ending}": content for ending, content in prediction.files.items()}
            if taken := files.keys() & written:
                raise InputError(f"{source}: two images whose results would both be called {min(taken)}; rename one")
            for name, content in files.items():
                write_atomically(out / name, content)
            written |= files.keys()
            found.append({"file_name": frame.name, **prediction.facts})
    write_atomically(out / RESULTS, json.dumps(found, indent=1).encode())
    return len(found)
