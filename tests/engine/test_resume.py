"""A run that is killed within an epoch."""

import math

import pytest
import torch
from test_fit import LeastSquares, trainer

from engine.config import RunConfig
from engine.weights.checkpoint import load_checkpoint
from odebackbones.errors import InputError


@pytest.mark.parametrize("stop", [1, 2, 5, 6])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_that_is_killed_within_an_epoch_ends_with_the_same_weights(tmp_path, stop, accumulate):
    class Killed(LeastSquares):
        left = stop

        def losses(self, model, batch, device):
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            return super().losses(model, batch, device)

    settings = {"epochs": 3, "lr": 0.1, "ema_decay": 0.9, "opt": "adamw", "batch_size": 2, "accumulate": accumulate}
    run = RunConfig(save_every_minutes=1e-9)
    whole = trainer(tmp_path / "whole", run=run, **settings)
    whole.folder.mkdir()
    whole.fit()
    killed = trainer(tmp_path, Killed(), run=run, **settings)
    with pytest.raises(KeyboardInterrupt):
        killed.fit()
    saved = tmp_path / "last.pt"
    assert saved.is_file() == (stop >= accumulate)
    resumed = trainer(tmp_path, run=run, **settings)
    if saved.is_file():
        resumed.load(saved)
        assert resumed.progress is not None and resumed.progress.batches == stop - stop % accumulate
    resumed.fit()
    assert torch.equal(resumed.model.weight, whole.model.weight)
    assert torch.equal(resumed.evaluated.weight, whole.evaluated.weight)
    times = {"seconds", "images_per_s"}
    assert [{k: v for k, v in row.items() if k not in times} for row in resumed.history] == [
        {k: v for k, v in row.items() if k not in times} for row in whole.history
    ]


def killed_after(batches, tmp_path, losses=None, **settings):
    """A run that was killed after this many batches; its losses may be others after the first one."""

    class Killed(LeastSquares):
        done = 0

        def losses(self, model, batch, device):
            if self.done == batches:
                raise KeyboardInterrupt
            self.done += 1
            found = super().losses(model, batch, device)
            return losses(found) if losses and self.done > 1 else found

    run = trainer(tmp_path, Killed(), run=RunConfig(save_every_minutes=1e-9), batch_size=2, **settings)
    with pytest.raises(KeyboardInterrupt):
        run.fit()


def test_a_checkpoint_within_an_epoch_never_holds_losses_that_are_not_finite(tmp_path):
    with pytest.raises(InputError, match="loss"):
        killed_after(2, tmp_path, losses=lambda found: {name: loss * math.nan for name, loss in found.items()})
    resumed = trainer(tmp_path, batch_size=2)
    resumed.load(tmp_path / "last.pt")
    assert resumed.progress.batches == 1 and resumed.model.weight.isfinite().all()


def test_an_epoch_of_another_length_is_not_gone_on_with(tmp_path):
    killed_after(1, tmp_path)
    content = load_checkpoint(tmp_path / "last.pt")
    content["progress"]["of"] *= 2  # as of one process in place of two
    torch.save(content, tmp_path / "last.pt")
    with pytest.raises(InputError, match="as many processes"):
        trainer(tmp_path, batch_size=2).load(tmp_path / "last.pt")
