"""The loop on a task that fits in the head: least squares."""

import csv
import math
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from engine.config import AnytimeConfig, OptimConfig, RunConfig
from engine.training.fit import Trainer
from odebackbones.block import ODEBlock
from odebackbones.errors import InputError, SolverError
from odebackbones.ode import SolverConfig

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Config:
    run: RunConfig = field(default_factory=RunConfig)
    anytime: AnytimeConfig = field(default_factory=AnytimeConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)


class LeastSquares:
    """Fit y = 2x; a batch is a stack of samples."""

    name, monitor, workers, config_class = "least squares", "score", 0, Config
    free_settings = ("data.workers",)

    def __init__(self, factor=2.0):
        x = torch.linspace(-1, 1, 16, dtype=torch.float64)[:, None]
        self.data = TensorDataset(x, factor * x)

    def build_model(self, *, loaded=False):
        return nn.Linear(1, 1, dtype=torch.float64)

    def describe_data(self):
        return ["train: 16 points"]

    def trial(self, model, device):
        self.evaluate(model, device)

    def train_dataset(self):
        return self.data

    def collate(self, samples):
        return [torch.stack(column) for column in zip(*samples, strict=True)]

    def losses(self, model, batch, device):
        x, y = batch
        return {"square": (model(x) - y).square().mean()}

    def evaluate(self, model, device):
        return {"score": -float((model.weight.detach() - 2).abs())}

    def metadata(self):
        return {}


def trainer(folder, task=None, run=RunConfig(), **optim):  # noqa: B008
    settings = {"opt": "momentum", "lr": 0.1, "momentum": 0.0, "weight_decay": 0.0, "batch_size": 4, "clip_grad": 0.0}
    config = Config(run, optim=OptimConfig(**{**settings, "warmup_epochs": 0, **optim}))
    return Trainer(task or LeastSquares(), config, folder=folder, device=CPU)


@pytest.mark.slow
def test_training_finds_the_solution(tmp_path):
    run = trainer(tmp_path, epochs=40, lr=0.5)
    run.fit()
    assert run.model.weight.item() == pytest.approx(2, abs=1e-3)


def test_accumulated_batches_are_one_large_batch(tmp_path):
    small, large = trainer(tmp_path, epochs=3, accumulate=4), trainer(tmp_path, epochs=3, batch_size=16)
    small.fit()
    large.fit()
    torch.testing.assert_close(small.model.weight, large.model.weight, rtol=1e-12, atol=1e-12)


def test_the_rate_warms_up_linearly_and_falls_to_zero_along_a_cosine(tmp_path):
    run = trainer(tmp_path, epochs=10, lr=1.0, warmup_epochs=2)
    rates = [run.optimizer.param_groups[0]["lr"]]
    for number in range(1, 41):
        run.scheduler.step(number)
        rates.append(run.optimizer.param_groups[0]["lr"])
    assert rates[:8] == sorted(rates[:8])
    assert rates[0] > 0
    steps = [b - a for a, b in pairwise(rates[:8])]
    assert max(steps) == pytest.approx(min(steps))
    assert rates[8] == pytest.approx((1 + torch.cos(torch.tensor(torch.pi * 8 / 40)).item()) / 2, abs=1e-6)
    assert rates[40] == pytest.approx(0, abs=1e-9)


def test_multistep_divides_the_rate_by_ten_at_the_milestones(tmp_path):
    run = trainer(tmp_path, epochs=6, lr=1.0, schedule="multistep", milestones=[2, 4])
    rates = []
    for update in range(6 * run.updates):  # each with the rate that the step before it set
        rates.append(run.optimizer.param_groups[0]["lr"])
        run.scheduler.step(update + 1)
    assert run.updates == 4
    assert rates == pytest.approx([1.0] * 8 + [0.1] * 8 + [0.01] * 8)


def test_clipping_bounds_the_step(tmp_path):
    run = trainer(tmp_path, LeastSquares(factor=1e4), epochs=1, lr=1.0, clip_grad=0.5, batch_size=16)
    before = torch.cat([p.detach().flatten() for p in run.model.parameters()])
    run.fit()
    after = torch.cat([p.detach().flatten() for p in run.model.parameters()])
    assert (after - before).norm().item() == pytest.approx(0.5, rel=1e-5)


def test_the_moving_average_is_what_is_evaluated_and_kept(tmp_path):
    run = trainer(tmp_path, epochs=3, lr=0.3, ema_decay=0.9)
    run.fit()
    kept = torch.load(tmp_path / "best.pt", weights_only=True)["model"]["weight"]
    assert not torch.equal(run.evaluated.weight, run.model.weight)
    assert torch.equal(kept, run.evaluated.weight)


def test_the_best_checkpoint_is_that_of_the_best_score_and_not_the_last(tmp_path):
    run = trainer(tmp_path, epochs=3, lr=1e-9)
    scores = iter([0.2, 0.9, 0.5])
    run.task.evaluate = lambda model, device: {"score": next(scores)}
    run.fit()
    best = torch.load(tmp_path / "best.pt", weights_only=True)
    assert (best["epoch"], best["score"]) == (2, 0.9)


@pytest.mark.parametrize("row", [{}, {"score": math.nan}], ids=str)
def test_a_run_whose_set_defines_no_score_keeps_its_last_weights_and_says_so(tmp_path, capsys, row):
    run = trainer(tmp_path, epochs=3)
    run.task.evaluate = lambda model, device: dict(row)
    run.fit()
    best = torch.load(tmp_path / "best.pt", weights_only=True)
    assert (best["epoch"], best["score"]) == (3, None)
    assert torch.equal(best["model"]["weight"], run.model.weight)
    out = capsys.readouterr()
    assert (out.out + out.err).count("score has no value on this validation set: best.pt keeps the last epoch") == 1


@pytest.mark.parametrize(("scores", "epoch"), [((0.0, 0.0, 0.0), 3), ((0.1, 0.5, 0.5), 3), ((math.nan, 0.2, 0.1), 2)])
def test_of_equal_scores_the_later_is_the_best(tmp_path, scores, epoch):
    run = trainer(tmp_path, epochs=3)
    found = iter(scores)
    run.task.evaluate = lambda model, device: {"score": next(found)}
    run.fit()
    assert torch.load(tmp_path / "best.pt", weights_only=True)["epoch"] == epoch


def test_an_evaluation_that_fails_costs_no_training(tmp_path):
    whole = trainer(tmp_path / "whole", epochs=3)
    (tmp_path / "whole").mkdir()
    whole.fit()
    run = trainer(tmp_path, epochs=3)
    works, run.task.evaluate = run.task.evaluate, lambda model, device: 1 / 0
    with pytest.raises(ZeroDivisionError):
        run.fit()
    assert len(torch.load(tmp_path / "last.pt", weights_only=True)["history"]) == 1
    resumed = trainer(tmp_path, epochs=3)
    resumed.load(tmp_path / "last.pt")
    seen = []
    resumed.task.evaluate = lambda model, device: seen.append(len(resumed.history)) or works(model, device)
    resumed.fit()
    assert seen == [1, 2, 3]  # the first epoch is evaluated and not trained again
    assert [row["score"] for row in resumed.history] == [row["score"] for row in whole.history]
    assert torch.equal(resumed.model.weight, whole.model.weight)


def test_a_run_is_resumed_with_more_epochs_and_says_what_becomes_of_the_rate(tmp_path, capsys):
    trainer(tmp_path, epochs=2, lr=0.1).fit()
    longer = trainer(tmp_path, epochs=4, lr=0.1)
    longer.load(tmp_path / "last.pt")
    out = capsys.readouterr()
    said = "4 epochs in place of 2: from epoch 3 on the learning rate follows the schedule of 4"
    assert said in " ".join((out.out + out.err).split())
    longer.fit()
    assert len(longer.history) == 4 and longer.history[2]["lr"] > longer.history[3]["lr"] > 0
    with pytest.raises(InputError, match=r"optim.epochs was 4, is 3"):
        trainer(tmp_path, epochs=3).load(tmp_path / "last.pt")


def test_the_rate_in_the_log_is_that_of_the_last_update_and_not_the_zero_after_it(tmp_path):
    run = trainer(tmp_path, epochs=2, lr=0.1)
    run.fit()
    assert all(row["lr"] > 0 for row in run.history)


def test_a_warm_up_takes_half_of_the_epochs_at_most(tmp_path):
    run = trainer(tmp_path, epochs=1, lr=1.0, warmup_epochs=1)
    rates = []
    for number in range(4):
        rates.append(run.optimizer.param_groups[0]["lr"])
        run.scheduler.step(number + 1)
    assert run.updates == 4 and max(rates) == rates[1]  # of two updates, one half of an epoch


def test_a_solve_that_diverges_in_training_says_where_how_and_what_to_do(tmp_path):
    class Diverging(LeastSquares):
        def losses(self, model, batch, device):
            if len(run.history) == 1:
                raise SolverError("layer2: the state is not finite after step 1 of 4")
            return super().losses(model, batch, device)

    run = trainer(tmp_path, Diverging(), epochs=2)
    with pytest.raises(InputError) as error:
        run.fit()
    told = str(error.value)
    assert told.startswith(
        "epoch 2, batch 1: layer2: the state is not finite after step 1 of 4. Losses of the epoch so"
    )
    assert "lower optim.lr, raise optim.warmup_epochs, or set optim.clip_grad; last.pt keeps the latest" in told


def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_the_checkpoint(tmp_path):
    run = trainer(tmp_path, epochs=2, lr=0.1)
    run.history.append({"epoch": 1.0})
    run.save()
    before = (tmp_path / "last.pt").read_bytes()
    with torch.no_grad():
        run.model.weight.fill_(float("nan"))
    with pytest.raises(InputError, match=r"not finite in epoch 2 .* lower optim\.lr"):
        run.fit()
    assert (tmp_path / "last.pt").read_bytes() == before


class OdeLeastSquares(LeastSquares):
    def __init__(self, solver, **kwargs):
        super().__init__()
        self.solver, self.kwargs = solver, kwargs

    def build_model(self, *, loaded=False):
        return nn.Sequential(ODEBlock(nn_field(), self.solver, **self.kwargs), nn.Linear(1, 1, dtype=torch.float64))

    def evaluate(self, model, device):
        return {"score": 0.0}


def nn_field():
    class Field(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(1, 1, dtype=torch.float64)

        def forward(self, t, x):
            return math.tanh(30.0 * (t - 0.5)) * self.linear(x)

    return Field()


def logged(folder):
    with (folder / "log.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_log_has_the_evaluations_of_every_block(tmp_path):
    trainer(tmp_path, OdeLeastSquares(SolverConfig("rk4", 3)), epochs=2).fit()
    assert [float(row["nfe/0"]) for row in logged(tmp_path)] == [12.0, 12.0]


def test_the_log_has_the_mean_evaluations_and_rejected_steps_of_an_adaptive_block(tmp_path):
    trainer(tmp_path, OdeLeastSquares(SolverConfig("dopri5", rtol=1e-6, atol=1e-6)), epochs=1).fit()
    [row] = logged(tmp_path)
    assert float(row["nfe/0"]) > 30 and float(row["rejected/0"]) > 0


def test_the_log_has_the_mean_evaluations_of_drawn_steps(tmp_path):
    task = OdeLeastSquares(SolverConfig("euler", 4), budgets=(2, 8))
    trainer(tmp_path, task, epochs=1, batch_size=1).fit()
    [row] = logged(tmp_path)
    assert 2 < float(row["nfe/0"]) < 8 and float(row["nfe/0"]) != 4


def test_a_batch_norm_that_sees_one_value_says_what_to_change(tmp_path):
    class OneValue(LeastSquares):
        def losses(self, model, batch, device):
            return {"loss": nn.BatchNorm1d(1)(torch.ones(1, 1)).sum()}

    with pytest.raises(InputError, match=r"^epoch 1, batch 1: a batch norm sees one value .* larger optim.batch_size"):
        trainer(tmp_path, OneValue(), epochs=1).fit()


def test_an_error_of_the_tasks_own_stays_what_it_is(tmp_path):
    class Broken(LeastSquares):
        def losses(self, model, batch, device):
            raise ValueError("mine")

    with pytest.raises(ValueError, match=r"^mine$"):
        trainer(tmp_path, Broken(), epochs=1).fit()
