"""Prediction on files: pictures with what was found, and the same as JSON."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.atomic_files import write_atomically
from engine.images.frame_writer import FrameWriter, picture_name
from engine.images.media import Frame, count_frames, find_inputs, is_video, read_frames, told
from engine.log import progress_bar, warn
from engine.runs.run import LoadedRun
from engine.task import Prediction
from odebackbones.errors import InputError, SolverError, truncate

RESULTS = "results.json"


@dataclass
class Predicted:
    """Results of a prediction.

    Attributes:
        entries: One entry per frame, as in ``results.json``.
        counts: Counts of what was found, by kind.
        unread: Files that could not be read or predicted on, and why.
        written: Names of the files written in addition to pictures.
    """

    entries: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    unread: dict[Path, str] = field(default_factory=dict)
    written: set[str] = field(default_factory=set)


def predict_files(run: LoadedRun, sources: Sequence[Path], out: Path) -> Predicted:
    """Predict on every frame of the sources; files that can't be read are skipped with a warning.

    Args:
        run: The run with the model.
        sources: Images, folders of images, videos.
        out: Folder for a picture of every frame (for a video: one video) and ``results.json``, which is written
            however the prediction ends.

    Returns:
        The results of all files.

    Raises:
        InputError: Nothing can be read, or something can't be written.
    """
    inputs = find_inputs(sources)
    if inputs.passed_over:
        warn(f"passed over: {told(inputs.passed_over)}")
    require_apart(inputs.files, out)
    found = Predicted()
    try:
        with progress_bar("predicting", total=sum(map(count_frames, inputs.files))) as bar:
            for file in inputs.files:
                predict_file(run, file, out, found, bar)
    finally:
        if found.entries:
            write_atomically(out / RESULTS, json.dumps(found.entries, indent=1).encode())
    if not found.entries:
        raise InputError(f"nothing could be read: {'; '.join(truncate(list(found.unread.values()), 'files'))}")
    return found


def predict_file(run: LoadedRun, file: Path, out: Path, found: Predicted, bar: Any) -> None:
    """Predict on the frames of one file."""
    turn = getattr(run.task.config.data, "exif", "auto") != "ignore"
    frames = read_frames(file, turn=turn)
    with FrameWriter(out, video_name=file.stem) as writer:
        while True:
            try:
                frame = next(frames, None)
            except InputError as error:
                found.unread[file] = str(error)
                warn(f"passed over: {error}")
                return
            if frame is None:
                return
            out.mkdir(parents=True, exist_ok=True)
            try:
                prediction = run.task.predict(run.model, frame.image, run.device)
            except (InputError, SolverError) as error:
                found.unread[file] = f"{frame.name}: {error}"
                warn(f"passed over: {frame.name}: {error}")
            else:
                keep(prediction, frame, writer, found)
            bar.update()


def keep(prediction: Prediction, frame: Frame, writer: FrameWriter, found: Predicted) -> None:
    """Write what was found in a frame, and add it to the results."""
    writer.write(frame, prediction.picture)
    files = name_files(prediction.files, Path(frame.name).stem)
    if files.keys() & found.written:  # written for an image whose name differs only by its suffix
        files = name_files(prediction.files, frame.name)
    for name, content in files.items():
        write_atomically(writer.folder / name, content)
    found.written |= files.keys()
    found.counts.update(prediction.counts)
    found.entries.append({"file_name": frame.name, **prediction.facts})


def name_files(files: Mapping[str, bytes], name: str) -> dict[str, bytes]:
    """Return the files under their full names, which begin with the image's name."""
    return {f"{name}{ending}": content for ending, content in files.items()}


def require_apart(files: Sequence[Path], out: Path) -> None:
    """Refuse results that would replace the input or each other.

    Raises:
        InputError: Results would replace the input or each other; the message names them.
    """
    if out.resolve() in {file.parent.resolve() for file in files}:
        raise InputError(f"{out}: pictures of what is in it would replace it; choose another --out")
    names = Counter(f"{file.stem}.mp4" if is_video(file) else picture_name(file.name) for file in files)
    if twice := [name for name, count in names.items() if count > 1]:
        raise InputError(f"two inputs whose results would both be called {twice[0]}; rename one, or predict them apart")
