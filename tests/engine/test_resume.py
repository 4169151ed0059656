"""A run that is killed within an epoch."""

import pytest
import torch
from test_fit import LeastSquares, trainer

from engine.config import RunConfig


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
