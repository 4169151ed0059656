"""The demos' trainings side by side, in processes of their own."""

import pytest
from tool_runs import SMALL

from odebackbones.errors import InputError
from tools.demo import main, train_side_by_side


@pytest.mark.slow
def test_models_are_trained_side_by_side_and_a_second_call_goes_on(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = {"ode": SMALL, "control": [*SMALL, "--model.backbone_args.steps=0"]}
    train_side_by_side("detection", {name: [*run, "--optim.epochs=1"] for name, run in runs.items()}, tmp_path)
    printed = capsys.readouterr().out
    assert f"ode: trained: {tmp_path / 'ode'}" in printed and "control: epoch 1/1" in printed
    train_side_by_side("detection", runs, tmp_path)
    printed = capsys.readouterr().out
    assert "epoch 1/2" not in printed and all(f"{name}: epoch 2/2" in printed for name in runs)


@pytest.mark.slow
def test_a_training_that_fails_is_named(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = {"good": [*SMALL, "--optim.epochs=1"], "bad": ["--optim.lr=-1"]}
    with pytest.raises(InputError, match="the training of bad failed"):
        train_side_by_side("detection", runs, tmp_path)
    assert "bad: error: " in capfd.readouterr().out
    assert (tmp_path / "good" / "last.pt").exists()


def test_options_that_a_demo_sets_are_refused_and_help_trains_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"--run.seeds=\[0,1\]: the demo sets these itself"):
        main(["detection", "--run.seeds=[0,1]"])
    main(["depth", "--help"])
    assert "a demo (detection, depth)" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
