import csv
import io
import sys

import pytest

from engine import log
from engine.log import TensorBoard, progress_bar, write_csv
from odebackbones.errors import InputError


def test_the_table_has_a_column_for_every_name_and_leaves_gaps_empty(tmp_path):
    write_csv([{"epoch": 1.0, "loss": 0.5}, {"epoch": 2.0, "loss": 0.25, "AP": 0.125}], tmp_path / "log.csv")
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows == [{"epoch": "1.0", "loss": "0.5", "AP": ""}, {"epoch": "2.0", "loss": "0.25", "AP": "0.125"}]


def test_tensorboard_that_is_off_writes_nothing(tmp_path):
    TensorBoard(tmp_path, enabled=False).write({"loss": 1.0}, 1)
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_that_is_missing_is_asked_for_with_the_command_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match=r"pip install 'odebackbones\[tensorboard\]'"):
        TensorBoard(tmp_path, enabled=True)


def test_tensorboard_gets_the_numbers_of_an_epoch(tmp_path):
    pytest.importorskip("tensorboard", reason="the extra 'tensorboard' is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    TensorBoard(tmp_path, enabled=True).write({"loss": 0.5}, 3)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    [event] = events.Scalars("loss")
    assert (event.step, event.value) == (3, 0.5)


def test_without_a_terminal_progress_is_a_line_each_minute(monkeypatch):
    lines = io.StringIO()
    monkeypatch.setattr("sys.stderr", lines)
    monkeypatch.setattr(log, "SECONDS_BETWEEN_LINES", 0)
    for _ in progress_bar("work", range(3)):
        pass
    shown = lines.getvalue().splitlines()
    assert [line.split("|")[2].split()[0] for line in shown] == ["1/3", "2/3"]
    assert all(line.startswith("work: ") for line in shown)
    monkeypatch.setattr(log, "SECONDS_BETWEEN_LINES", 60)
    assert list(progress_bar("work", range(3))) == [0, 1, 2]
    assert lines.getvalue().splitlines() == shown
