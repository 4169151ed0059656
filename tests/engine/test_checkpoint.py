import os
import pickle

import pytest
import torch
from torch import nn

from engine.atomic_files import write_atomically
from engine.weights.checkpoint import load_checkpoint, load_weights, save_checkpoint
from odebackbones.errors import InputError


class Exploit:
    def __reduce__(self):
        return os.mkdir, ("exploited",)


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    path = tmp_path / "a.pt"
    save_checkpoint(path, task="detection", model={"w": torch.arange(3.0)}, config={"lr": 0.1, "name": None})
    content = load_checkpoint(path, task="detection")
    assert torch.equal(content["model"]["w"], torch.arange(3.0))
    assert content["config"] == {"lr": 0.1, "name": None}


def test_a_checkpoint_that_holds_code_is_refused_and_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"format": "odebackbones-checkpoint-1", "task": "detection", "model": Exploit()}, "evil.pt")
    with pytest.raises(InputError, match=r"evil\.pt: holds more than tensors"):
        load_checkpoint(tmp_path / "evil.pt", task="detection")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Exploit(), protocol=2))
    with pytest.raises(InputError, match=r"plain\.pt"):
        load_checkpoint(tmp_path / "plain.pt", task="detection")
    assert not (tmp_path / "exploited").exists()


@pytest.mark.parametrize("content", [b"", b"no checkpoint at all", b"PK\x03\x04 cut off"])
def test_a_damaged_file_is_refused_by_name(tmp_path, content):
    path = tmp_path / "broken.pt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"broken\.pt"):
        load_checkpoint(path, task="detection")


def test_a_missing_file_another_format_and_another_task_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "none.pt", task="detection")
    torch.save({"state_dict": {}}, tmp_path / "other.pt")
    with pytest.raises(InputError, match="not a checkpoint of ours"):
        load_checkpoint(tmp_path / "other.pt", task="detection")
    save_checkpoint(tmp_path / "depth.pt", task="depth")
    with pytest.raises(InputError, match="'depth', and 'detection' was asked for"):
        load_checkpoint(tmp_path / "depth.pt", task="detection")


def test_a_failed_write_leaves_the_old_file_whole_and_no_rubbish(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    write_atomically(path, b"old")

    def full_disk(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new and longer")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_weights_of_another_model_are_refused_with_what_differs():
    model = nn.Linear(3, 2)
    with pytest.raises(
        InputError, match=r"x\.pt: the weights of another model \(1 missing: bias; 1 unknown: gain; 1 of"
    ):
        load_weights(model, {"weight": torch.zeros(4, 4), "gain": torch.zeros(1)}, origin="x.pt")
    load_weights(model, {"weight": torch.ones(2, 3), "bias": torch.ones(2)}, origin="x.pt")
    assert model.weight.sum() == 6
